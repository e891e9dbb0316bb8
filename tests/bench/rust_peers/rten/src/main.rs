//! rten: all its operators, optimisations on, weights packed when the model is loaded, a thread pool of the given size.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bench_worker::{Engine, Input, serve};
use rten::{Model, ModelOptions, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;
use rten_tensor::{Tensor, TensorView};

struct Rten {
    model: Model,
    options: RunOptions,
    input: Input,
    output: Option<Value>,
}

impl Engine for Rten {
    fn load(model: &Path, threads: usize, input: Input) -> Result<Rten> {
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        let mut options = RunOptions::default();
        options.thread_pool = Some(pool);
        Ok(Rten { model, options, input, output: None })
    }

    fn run(&mut self) -> Result<()> {
        let input = TensorView::from_data(self.input.shape.as_slice(), self.input.values.as_slice());
        self.output = Some(self.model.run_one(input.into(), Some(self.options.clone()))?);
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let output = self.output.clone().context("the model has not run")?;
        let output: Tensor<f32> = output.try_into()?;
        Ok(output.to_vec())
    }
}

fn main() {
    serve::<Rten>();
}
