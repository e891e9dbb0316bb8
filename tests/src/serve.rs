//! Runs a model for another program: shapes and data come on standard input, results go to standard output.
//!
//! ```text
//!   serve MODEL.onnx        as arguments of the test `ocr`, which serves its own runs of the pipeline
//!
//!   request    u32 rank, u32 × rank extents, f32 × product data       of the model's only input
//!   answer     u32 0, u64 nanoseconds that the run took, u32 outputs, and for each: u32 rank, extents, data
//!          or  u32 1, u32 length, what is wrong in UTF-8
//! ```
//!
//! Numbers are little-endian. The end of the input ends the program; anything that is cut short, or no such shape as memory
//! holds, ends it with an error.

use std::error::Error;
use std::io::{self, Read, Write};
use std::time::Instant;

use nnc::{DynamicModel, DynamicSession, Pool, TensorRef};

/// More elements than any request has.
const MOST_ELEMENTS: usize = 1 << 28;
/// More dims than any input has.
const MOST_DIMS: u32 = 16;

/// Serves the model in a file until the input ends.
///
/// # Errors
///
/// The model cannot be read, a request is no request, or nobody reads the answers.
pub fn run(path: &str) -> Result<(), Box<dyn Error>> {
    let mut session = DynamicModel::open(path)?.session(&Pool::for_this_machine()?);
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some((shape, data)) = request(&mut input)? {
        match answer(&mut session, &shape, &data) {
            Ok(bytes) => output.write_all(&bytes)?,
            Err(error) => {
                let text = error.to_string();
                output.write_all(&1u32.to_le_bytes())?;
                output.write_all(&(text.len() as u32).to_le_bytes())?;
                output.write_all(text.as_bytes())?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// The next shape with its data; `None` at the end of the input.
fn request(input: &mut impl Read) -> Result<Option<(Vec<usize>, Vec<f32>)>, Box<dyn Error>> {
    let mut rank = [0; 4];
    match input.read(&mut rank[..1])? {
        0 => return Ok(None),
        _ => input.read_exact(&mut rank[1..])?,
    }
    let rank = u32::from_le_bytes(rank);
    if rank > MOST_DIMS {
        return Err(format!("a request of {rank} dims").into());
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        let mut extent = [0; 4];
        input.read_exact(&mut extent)?;
        shape.push(u32::from_le_bytes(extent) as usize);
    }
    let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let elements = elements.filter(|&n| n <= MOST_ELEMENTS).ok_or("a request that is too large")?;
    let mut data = vec![0.0f32; elements];
    input.read_exact(bytemuck::cast_slice_mut(&mut data))?;
    Ok(Some((shape, data)))
}

fn answer(session: &mut DynamicSession, shape: &[usize], data: &[f32]) -> Result<Vec<u8>, Box<dyn Error>> {
    let start = Instant::now();
    let outputs = session.run(&[TensorRef::new(shape, data)])?;
    let nanos = start.elapsed().as_nanos() as u64;
    let mut bytes = 0u32.to_le_bytes().to_vec();
    bytes.extend(nanos.to_le_bytes());
    bytes.extend((outputs.count() as u32).to_le_bytes());
    for index in 0..outputs.count() {
        let shape = outputs.shape(index)?;
        bytes.extend((shape.len() as u32).to_le_bytes());
        for extent in shape {
            bytes.extend(u32::try_from(extent)?.to_le_bytes());
        }
        bytes.extend_from_slice(bytemuck::cast_slice(outputs.get::<f32>(index)?));
    }
    Ok(bytes)
}
