//! How close tile kernels come to what one core of this machine can do.
//!
//! ```text
//! cargo bench -p nnc --bench tiles                        everything
//! cargo bench -p nnc --bench tiles -- depthwise           what has this in its name
//! NNC_TARGET=x86-64-v3 cargo bench -p nnc --bench tiles   for another target that runs here
//! ```
//!
//! Each benchmark is a layer as the planner lays it out, between two others that give its images the layout that they have
//! in a network; only its own steps are timed, on one thread. Layers that multiply are compared with the peak of
//! multiply-adds, all others with the rate at which a working set of as many bytes as they move is read. Both are measured
//! in the same run, and criterion shows the shares in place of a throughput.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};
use nnc::code::tile::programs::dense::Products;
use nnc::code::tile::programs::winograd::{Form, Sweeps};
use nnc::emit::jit;
use nnc::plan::winograd::StoredKernels;
use nnc::plan::{self, StripRule, Winograd};
use nnc::roofline::Roofline;
use nnc::target::Target;
use nnc::{InputRef, Pool, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let target = Target::named(&std::env::var("NNC_TARGET").unwrap_or("native".into()))?;
    let limits = Limits::new(&target)?;
    println!("one core on {}: {:.1} GFLOP/s of multiply-adds", target.name, limits.flops.get() / 1e9);
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .with_measurement(limits)
        .configure_from_args();
    for layer in layers() {
        bench(&mut criterion, &layer, &target).map_err(|e| format!("{}/{}: {e}", layer.group, layer.name))?;
    }
    criterion.final_summary();
    Ok(())
}

/// A layer to be timed: the node `%layer` of a graph with one input.
struct Layer {
    group: &'static str,
    name: String,
    graph: String,
    winograd: Winograd,
}

fn bench(criterion: &mut Criterion<Limits>, layer: &Layer, target: &Target) -> Result<(), Box<dyn Error>> {
    let graph = nnc_ir::text::parse(&layer.graph)?;
    let options =
        plan::PlanOptions { winograd: layer.winograd, strips: StripRule::Never, ..Default::default() };
    let plan = plan::plan(&graph, target, &options, &BTreeMap::new())?;
    let own: Vec<usize> =
        (0..plan.steps.len()).filter(|&i| plan.steps[i].name.starts_with("layer")).collect();
    let (mut flops, mut bytes) = (0, 0);
    for &step in &own {
        flops += 2 * plan.steps[step].macc;
        bytes += plan.steps[step].traffic.read + plan.steps[step].traffic.written;
    }
    if bytes == 0 {
        return Err("the layer has no step of its own".into());
    }
    let program = jit::compile(plan, target)?;
    let input: Vec<f32> = (0..program.inputs()[0].elems()).map(|i| (i % 61) as f32 / 30.0 - 1.0).collect();
    let inputs = [InputRef::new(&input)];
    let mut session = Session::new(&program, &Pool::new(1)?)?;
    session.run(&inputs)?;

    let mut group = criterion.benchmark_group(layer.group);
    group.throughput(if flops > 0 { Throughput::Elements(flops) } else { Throughput::Bytes(bytes) });
    group.bench_function(&layer.name, |b| {
        b.iter_custom(|runs| {
            let mut nanos = 0;
            for _ in 0..runs {
                // The same run has succeeded above.
                let Ok(steps) = session.run_profiled(&inputs) else { break };
                nanos += own.iter().filter_map(|&step| steps.get(step)).sum::<u64>();
            }
            Duration::from_nanos(nanos)
        });
    });
    group.finish();
    Ok(())
}

/// Wall time, shown as a share of what the machine can do.
struct Limits {
    target: Target,
    /// Of multiply-adds, a second: the best so far.
    flops: Cell<f64>,
    /// How fast so many bytes are read, a second: the best so far.
    rates: RefCell<BTreeMap<u64, f64>>,
}

impl Limits {
    fn new(target: &Target) -> Result<Limits, Box<dyn Error>> {
        let (flops, rates) = (Cell::new(0.0), RefCell::new(BTreeMap::new()));
        let limits = Limits { target: target.clone(), flops, rates };
        limits.measure()?;
        Ok(limits)
    }

    /// Measures the peak once more. The machine may be shared, and its clock changes: the best counts.
    fn measure(&self) -> Result<Roofline, Box<dyn Error>> {
        let roofline = Roofline::measure(&self.target)?;
        self.flops.set(self.flops.get().max(roofline.flops(Products::Floats)));
        Ok(roofline)
    }

    /// Seconds that work takes at the limit; `None` where that cannot be measured.
    fn seconds(&self, work: &Throughput) -> Option<f64> {
        let roofline = self.measure().ok()?;
        match *work {
            Throughput::Elements(flops) => Some(flops as f64 / self.flops.get()),
            Throughput::Bytes(bytes) => {
                let rate = roofline.read_rate(bytes).ok()?;
                let mut rates = self.rates.borrow_mut();
                let best = rates.entry(bytes).or_insert(rate);
                *best = best.max(rate);
                Some(bytes as f64 / *best)
            }
            _ => None,
        }
    }
}

impl Measurement for Limits {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        Instant::now()
    }

    fn end(&self, start: Instant) -> Duration {
        start.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Limits {
    fn scale_values(&self, _typical: f64, nanos: &mut [f64]) -> &'static str {
        nanos.iter_mut().for_each(|value| *value /= 1e3);
        "µs"
    }

    fn scale_throughputs(&self, _typical: f64, work: &Throughput, nanos: &mut [f64]) -> &'static str {
        let limit = self.seconds(work).unwrap_or(f64::NAN);
        nanos.iter_mut().for_each(|value| *value = 100.0 * limit / (*value * 1e-9));
        match work {
            Throughput::Elements(_) => "% of the multiply-add peak",
            _ => "% of the rate of reading",
        }
    }

    fn scale_for_machines(&self, _nanos: &mut [f64]) -> &'static str {
        "ns"
    }
}

/// Layers of the networks that nnc is for.
fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    for (size, inputs, outputs) in
        [(112, 32, 64), (56, 24, 144), (28, 192, 32), (14, 512, 512), (7, 960, 160), (7, 1024, 1024)]
    {
        layers.push(Conv::new(size, inputs, outputs).layer("dense"));
    }
    for (size, channels, kernel, stride) in [(56, 64, 3, 1), (56, 64, 3, 2), (28, 48, 5, 1)] {
        layers.push(Conv { kernel, stride, ..Conv::new(size, channels, channels) }.layer("kxk"));
    }
    for (size, inputs, outputs, groups) in [(28, 240, 60, 3), (28, 60, 240, 3), (14, 768, 192, 8)] {
        layers.push(Conv { groups, ..Conv::new(size, inputs, outputs) }.layer("grouped"));
    }
    for (size, channels, kernel, stride) in [
        (112, 32, 3, 1),
        (112, 96, 3, 2),
        (56, 144, 3, 1),
        (28, 58, 3, 1),
        (14, 512, 3, 1),
        (7, 960, 3, 1),
        (28, 88, 5, 1),
        (28, 88, 7, 1),
    ] {
        let conv = Conv { kernel, stride, groups: channels, ..Conv::new(size, channels, channels) };
        layers.push(conv.layer("depthwise"));
    }
    // What counts are the products of the direct form; more than the peak is what the transforms save.
    for (form, kernels, group) in [
        (Form::F2, StoredKernels::Transformed, "winograd F(2x2)"),
        (Form::F2, StoredKernels::Plain(Sweeps::Pairs), "winograd F(2x2), plain kernels"),
        (Form::F4, StoredKernels::Transformed, "winograd F(4x4)"),
        (Form::F4, StoredKernels::Plain(Sweeps::Pairs), "winograd F(4x4), plain kernels"),
    ] {
        for (size, channels) in [(56, 64), (28, 128), (14, 256)] {
            let conv = Conv { kernel: 3, ..Conv::new(size, channels, channels) };
            layers.push(Layer { winograd: Winograd::Always(form, kernels), ..conv.layer(group) });
        }
    }
    for (op, (size, channels), attributes, out) in [
        ("max_pool", (112, 24), "{kernel=3x3, strides=2x2, pads=1x1:0x0} ", 56),
        ("average_pool", (28, 88), "{kernel=3x3, pads=1x1:1x1} ", 28),
        ("global_average_pool", (7, 1024), "", 1),
    ] {
        let result = image(channels, out);
        let code = format!("%layer = {op} %i {attributes}: {result}");
        layers.push(around(
            "pools",
            format!("{op} {size}x{size} {channels}"),
            (size, channels),
            &code,
            &result,
        ));
    }
    for (size, channels) in [(14, 256), (56, 128)] {
        let (own, name) = ((size, channels), format!("{size}x{size} {channels}"));
        let same = image(channels, size);
        let sum = format!("%j = max_pool %x {{kernel=1x1}} : {same}\n%layer = add %i, %j : {same}");
        layers.push(around("element-wise", format!("add {name}"), own, &sum, &same));
        let unary = format!("%layer = hard_swish %i : {same}");
        layers.push(around("element-wise", format!("hard_swish {name}"), own, &unary, &same));
        let tall = format!("f32[1x{channels}x{}x{size}]", 2 * size);
        let concat = format!("%layer = concat %i, %i {{axis=2}} : {tall}");
        layers.push(around("copies", format!("concat of rows {name}"), own, &concat, &tall));
    }
    layers
}

/// A convolution of square images whose size it keeps, but for its stride.
struct Conv {
    size: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

impl Conv {
    /// A 1×1 convolution.
    fn new(size: usize, inputs: usize, outputs: usize) -> Conv {
        Conv { size, inputs, outputs, kernel: 1, stride: 1, groups: 1 }
    }

    /// With a bias and a ReLU6.
    fn layer(&self, group: &'static str) -> Layer {
        let Conv { size, inputs, outputs, kernel, stride, groups } = *self;
        let (begin, out) = (kernel / 2, size.div_ceil(stride));
        let end = ((out - 1) * stride + kernel).saturating_sub(size + begin);
        let result = image(outputs, out);
        let code = format!(
            "%w = const f32[{outputs}x{}x{kernel}x{kernel}] hash(seed=1, scale=0.1)\n\
             %b = const f32[{outputs}] hash(seed=2, scale=0.1)\n\
             %layer = conv %i, %w, %b {{strides={stride}x{stride}, pads={begin}x{begin}:{end}x{end}, \
             groups={groups}, epilogue=relu6}} : {result}",
            inputs / groups,
        );
        let mut name = format!("{size}x{size} {inputs}");
        if outputs != inputs {
            name += &format!(" to {outputs}");
        }
        if groups > 1 && groups < inputs {
            name += &format!(" in {groups} groups");
        }
        if kernel > 1 {
            name += &format!(" by {kernel}x{kernel}");
        }
        if stride > 1 {
            name += &format!(" stride {stride}");
        }
        around(group, name, (size, inputs), &code, &result)
    }
}

/// `code` makes `%layer` of `%i`, an image of that size and number of channels. Layers on both sides keep `%i` and `%layer`
/// in the layout of images.
fn around(
    group: &'static str,
    name: String,
    (size, channels): (usize, usize),
    code: &str,
    result: &str,
) -> Layer {
    let shape = image(channels, size);
    let graph = format!(
        "%x = input : {shape}\n\
         %i = max_pool %x {{kernel=1x1}} : {shape}\n\
         {code}\n\
         %y = max_pool %layer {{kernel=1x1}} : {result}\n\
         output y = %y\n"
    );
    Layer { group, name, graph, winograd: Winograd::Never }
}

/// The type of an image.
fn image(channels: usize, size: usize) -> String {
    format!("f32[1x{channels}x{size}x{size}]")
}
