use nnc::{DynamicModel, Pool, TensorRef};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: dynamic MODEL.onnx")?;
    let model = DynamicModel::open(file)?;
    let mut session = model.session(&Pool::for_this_machine()?);
    for width in [320, 480, 320] {
        let line = vec![0.5f32; 3 * 48 * width];
        let outputs = session.run(&[TensorRef::new(&[1, 3, 48, width], &line)])?;
        println!("{:?}", outputs.shape(0)?);
    }
    println!("{:?}", model.usage());
    Ok(())
}
