//! tract: ONNX, declutter, optimise, a runnable plan. With more than one thread, matrix products run on a pool of its own.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bench_worker::{Engine, Input, serve};
use tract_onnx::prelude::*;

struct Tract {
    plan: Arc<TypedRunnableModel>,
    input: TValue,
    outputs: TVec<TValue>,
}

impl Engine for Tract {
    fn load(model: &Path, threads: usize, input: Input) -> Result<Tract> {
        let executor = match threads {
            1 => multithread::Executor::SingleThread,
            _ => multithread::Executor::multithread(threads),
        };
        let plan = tract_onnx::onnx()
            .model_for_path(model)?
            .with_input_fact(0, f32::fact(&input.shape).into())?
            .into_optimized()?
            .into_runnable_with_options(&RunOptions { executor: Some(executor), ..RunOptions::default() })?;
        let input = Tensor::from_shape(&input.shape, &input.values)?.into_tvalue();
        Ok(Tract { plan, input, outputs: tvec!() })
    }

    fn run(&mut self) -> Result<()> {
        self.outputs = self.plan.run(tvec!(self.input.clone()))?;
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let output = self.outputs.first().context("the model has no output")?;
        Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

fn main() {
    serve::<Tract>();
}
