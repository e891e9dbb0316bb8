//! Arrays of the crate ndarray as inputs and outputs: where they lie, and of the shape that the program has.

mod common;

use common::{COLS, ROWS, constants, expected, input, program};
use ndarray::{Array1, Array2, Array3, ArrayView2, s};
use nnc_runtime::{InputRef, OutputMut, Pool, Session};

fn session() -> Session {
    Session::new(&program(), &Pool::new(1).unwrap()).unwrap()
}

fn arrays() -> (Array3<f32>, Array1<f32>) {
    let x = Array3::from_shape_vec((1, ROWS, COLS), input(3)).unwrap();
    (x, Array1::from_vec(constants()[COLS..].to_vec()))
}

#[test]
fn arrays_go_in_and_come_out_where_they_lie() {
    let ((x, bias), mut session) = (arrays(), session());
    let expected = expected(x.as_slice().unwrap(), bias.as_slice().unwrap());
    let view = bias.view();
    let inputs = [InputRef::of_array(&x).unwrap(), InputRef::of_array(&view).unwrap()];
    assert_eq!(inputs[0].bytes().as_ptr(), x.as_ptr().cast());

    let outputs = session.run(&inputs).unwrap();
    let y = outputs.array::<f32>(outputs.index_of("y").unwrap()).unwrap();
    assert_eq!(y.shape(), [1, ROWS, COLS]);
    assert_eq!(y.as_ptr(), outputs.get::<f32>(0).unwrap().as_ptr());
    assert_eq!(y.iter().copied().collect::<Vec<_>>(), expected);

    let mut z = Array3::<f32>::zeros((1, ROWS, COLS));
    session.run_into(&inputs, &mut [OutputMut::of_array(&mut z).unwrap()]).unwrap();
    assert_eq!(z.into_raw_vec_and_offset().0, expected);
}

#[test]
fn an_array_of_another_shape_is_refused_although_it_has_the_size() {
    let ((x, bias), mut session) = (arrays(), session());
    let flat = ArrayView2::from_shape((1, ROWS * COLS), x.as_slice().unwrap()).unwrap();
    let [x, flat, bias] = [
        InputRef::of_array(&x).unwrap(),
        InputRef::of_array(&flat).unwrap(),
        InputRef::of_array(&bias).unwrap(),
    ];
    let error = session.run(&[flat, bias]).unwrap_err().to_string();
    let shape = format!("input \"x\" has the shape {:?} but got {:?}", [1, ROWS, COLS], [1, ROWS * COLS]);
    assert_eq!(error, format!("{shape}; pass a tensor of that shape"));
    assert!(session.run(&[bias.named("bias"), flat.named("x")]).is_err(), "by name, too");

    let mut y = Array1::<f32>::zeros(ROWS * COLS);
    let error = session.run_into(&[x, bias], &mut [OutputMut::of_array(&mut y).unwrap()]).unwrap_err();
    assert!(error.to_string().starts_with("output \"y\" has the shape"), "{error}");
    assert!(y.iter().all(|&y| y == 0.0));
}

#[test]
fn an_array_that_does_not_lie_row_by_row_is_refused_with_its_strides() {
    let mut x = Array2::<f32>::zeros((4, 6));
    let turned = x.t();
    let error = InputRef::of_array(&turned).unwrap_err();
    assert_eq!((error.shape.as_slice(), error.strides.as_slice()), (&[6, 4][..], &[1, 6][..]));
    assert!(error.to_string().contains("copy it with `as_standard_layout`"), "{error}");
    assert!(InputRef::of_array(&x.slice(s![.., 1..])).is_err());
    assert!(InputRef::of_array(&x.slice(s![1.., ..])).is_ok());
    assert!(OutputMut::of_array(&mut x.slice_mut(s![.., ..;2])).is_err());
}

#[test]
fn an_output_that_is_not_there_is_an_error_that_lists_those_there_are() {
    let ((x, bias), mut session) = (arrays(), session());
    let outputs =
        session.run(&[InputRef::of_array(&x).unwrap(), InputRef::of_array(&bias).unwrap()]).unwrap();
    assert_eq!(
        outputs.index_of("z").unwrap_err().to_string(),
        "the program has no output \"z\"; it has \"y\""
    );
    assert!(outputs.array::<f32>(1).is_err() && outputs.array::<u8>(0).is_err());
}
