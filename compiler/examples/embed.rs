use nnc::{InputRef, Model, Options, Pool, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: embed MODEL.onnx")?;
    let program = Model::open(file)?.compile(&Options::default())?;
    let mut session = Session::new(&program, &Pool::for_this_machine()?)?;
    let input = vec![0.5f32; program.inputs()[0].elems()];
    let outputs = session.run(&[InputRef::new(&input)])?;
    println!("{:?}", &outputs.get::<f32>(0)?[..5]);
    Ok(())
}
