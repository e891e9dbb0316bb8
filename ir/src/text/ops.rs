//! The attributes of every operator, each described once for printer and parser alike.
//!
//! To give an operator a text form, describe it with `attributes!` (or by hand, where an attribute is written in another way than it
//! is stored).

use crate::op::resize::{CoordinateMode, Crop, NearestMode, Resize, ResizeMode};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::DType;

use super::attrs::{Attr, AttrFault, ByX, Fields, List, Pads};

/// Something with attributes.
pub(super) trait Described: Sized {
    /// One instance for every keyword, to be filled by a walk that reads.
    fn blanks() -> Vec<Self>;

    /// Walks over the attributes.
    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault>;
}

/// An ONNX name in lower snake case: `GlobalAveragePool` is `global_average_pool`, `LRN` is `lrn`.
pub(super) fn keyword(name: &str) -> String {
    let chars: Vec<char> = name.replace("NaN", "Nan").chars().collect();
    let mut word = String::new();
    for (i, c) in chars.iter().enumerate() {
        let starts = i > 0
            && c.is_ascii_uppercase()
            && (!chars[i - 1].is_ascii_uppercase() || chars.get(i + 1).is_some_and(char::is_ascii_lowercase));
        if starts {
            word.push('_');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// The operator of a keyword, its attributes still to be filled.
pub(super) fn blank(word: &str) -> Option<Op> {
    Op::blanks().into_iter().find(|op| keyword(op.name()) == word)
}

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        impl Described for Op {
            fn blanks() -> Vec<Op> {
                let mut all = Vec::new();
                $(all.extend($name::blanks().into_iter().map(Op::$name));)*
                all
            }

            fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
                match self {
                    Op::Input | Op::Constant(_) => Ok(()),
                    $(Op::$name(op) => op.fields(f),)*
                }
            }
        }
    };
}

every_operator!(ops);

/// Structs: each field with its default, or `*` where it must be written; `as W` says in which form it is written.
macro_rules! attributes {
    ($($name:ident { $($field:ident $(as $form:ident)? = $default:tt),* })*) => { $(
        impl Described for $name {
            fn blanks() -> Vec<Self> {
                vec![$name { $($field: Default::default()),* }]
            }

            #[allow(unused_variables)]
            fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
                $(attributes!(@field self f $field [$($form)?] $default);)*
                Ok(())
            }
        }
    )* };
    (@field $self:ident $f:ident $field:ident [] *) => {
        $f.required(stringify!($field), &mut $self.$field)?
    };
    (@field $self:ident $f:ident $field:ident [] $default:tt) => {
        $f.optional(stringify!($field), &mut $self.$field, $default)?
    };
    (@field $self:ident $f:ident $field:ident [$form:ident] *) => {{
        let mut form = $form(std::mem::take(&mut $self.$field));
        let outcome = $f.required(stringify!($field), &mut form);
        $self.$field = form.0;
        outcome?
    }};
}

attributes! {
    MatMul { trans_b = false, epilogue = (Epilogue::default()) }
    BatchNorm { epsilon = 1e-5 }
    ChannelAffine { activation = None }
    InstanceNorm { epsilon = 1e-5 }
    LayerNorm { axis = *, epsilon = 1e-5 }
    Lrn { size = *, alpha = 1e-4, beta = 0.75, bias = 1.0 }
    Softmax { axis = * }
    LogSoftmax { axis = * }
    Concat { axis = * }
    Split { axis = *, parts as List = * }
    Slice { axes as List = * }
    Reshape { shape as ByX = * }
    Expand { shape as ByX = * }
    Transpose { perm as List = * }
    GatherAt { axis = * }
    GatherElements { axis = * }
    GatherNd { batch_dims = 0 }
    Inside { axis = *, outside = (Outside::Nearest) }
    ScatterElements { axis = *, reduction = (ScatterReduction::Replace) }
    ScatterNd { reduction = (ScatterReduction::Replace) }
    TopK { axis = *, k = *, largest = true }
    ReverseSequence { batch_axis = *, time_axis = * }
    MaxUnpool { sizes as ByX = * }
    NonMaxSuppression { most = *, center_point_box = false }
    Prefix { axes as List = * }
}

// Their graphs are written apart from their attributes.
impl Described for Loop {
    fn blanks() -> Vec<Loop> {
        vec![Loop::default()]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("trips", &mut self.trips)?;
        f.optional("by_data", &mut self.by_data, false)?;
        f.optional("states", &mut self.states, 0)?;
        f.optional("scanned", &mut self.scanned, 0)
    }
}

impl Described for If {
    fn blanks() -> Vec<If> {
        vec![If::default()]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

/// Before each graph inside of an operator stands a word.
pub(super) fn body_words(op: &Op) -> &'static [&'static str] {
    match op {
        Op::Loop(_) => &["body"],
        Op::If(_) => &["then", "else"],
        _ => &[],
    }
}

/// Enums whose variants are operators: each variant with the defaults of its parameters.
macro_rules! variants {
    ($name:ident { $($variant:ident $({ $($field:ident = $default:expr),* })?),* $(,)? }) => {
        impl Described for $name {
            fn blanks() -> Vec<Self> {
                vec![$($name::$variant $({ $($field: $default),* })?),*]
            }

            #[allow(unused_variables)]
            fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
                match self {
                    $($name::$variant $({ $($field),* })? => {
                        $($(f.optional(stringify!($field), $field, $default)?;)*)?
                        Ok(())
                    })*
                }
            }
        }
    };
}

variants!(Unary {
    Relu,
    Clip { min = f32::NEG_INFINITY, max = f32::INFINITY },
    LeakyRelu { alpha = 0.01 },
    ThresholdedRelu { alpha = 1.0 },
    Sigmoid,
    HardSigmoid { alpha = 0.2, beta = 0.5 },
    HardSwish,
    Silu,
    Tanh,
    Elu { alpha = 1.0 },
    Celu { alpha = 1.0 },
    Selu { alpha = 1.673_263_2, gamma = 1.050_701 },
    Softplus,
    Softsign,
    Mish,
    Gelu { tanh = false },
    Erf,
    Exp,
    Log,
    Sqrt,
    Power { exponent = 1.0 },
    Reciprocal,
    Abs,
    Neg,
    Sign,
    Floor,
    Ceil,
    Round,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Not,
    IsNan,
    IsInf { negative = true, positive = true },
});

variants!(BinaryFn {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Mod { fmod = false },
    PRelu,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
});

variants!(ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
    ArgMax { last = false },
    ArgMin { last = false },
});

variants!(PoolKind {
    Max,
    Average { count_include_pad = false },
    Lp { p = 2 },
});

impl Described for Binary {
    fn blanks() -> Vec<Self> {
        BinaryFn::blanks().into_iter().map(|function| Binary { function, activation: None }).collect()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        self.function.fields(f)?;
        f.optional("activation", &mut self.activation, None)
    }
}

impl Described for Reduce {
    fn blanks() -> Vec<Self> {
        let kinds = ReduceKind::blanks().into_iter();
        kinds.map(|kind| Reduce { kind, axes: Vec::new(), keep_dims: false }).collect()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        self.kind.fields(f)?;
        let mut axes = List(std::mem::take(&mut self.axes));
        f.required("axes", &mut axes)?;
        self.axes = axes.0;
        f.optional("keep_dims", &mut self.keep_dims, true)
    }
}

variants!(CumulativeKind { Sum, Prod });

impl Described for Cumulative {
    fn blanks() -> Vec<Self> {
        let kinds = CumulativeKind::blanks().into_iter();
        kinds.map(|kind| Cumulative { kind, axis: 0, exclusive: false, reverse: false }).collect()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("axis", &mut self.axis)?;
        f.optional("exclusive", &mut self.exclusive, false)?;
        f.optional("reverse", &mut self.reverse, false)
    }
}

impl Described for MaxPoolArg {
    fn blanks() -> Vec<Self> {
        vec![MaxPoolArg { window: blank_window(), column_major: false }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        window(&mut self.window, f, None)?;
        f.optional("column_major", &mut self.column_major, false)
    }
}

impl Described for NonZero {
    fn blanks() -> Vec<Self> {
        vec![NonZero]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

/// An axis, or all elements in row-major order.
impl Attr for Option<usize> {
    fn write(&self) -> String {
        self.map_or("flat".to_string(), |axis| axis.write())
    }

    fn read(text: &str) -> Result<Self, String> {
        if text == "flat" { Ok(None) } else { usize::read(text).map(Some) }
    }
}

impl Described for Compress {
    fn blanks() -> Vec<Self> {
        vec![Compress { axis: None }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.optional("axis", &mut self.axis, None)
    }
}

impl Described for Unique {
    fn blanks() -> Vec<Self> {
        vec![Unique { axis: None, sorted: true }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.optional("axis", &mut self.axis, None)?;
        f.optional("sorted", &mut self.sorted, true)
    }
}

/// `ij,jk->ik`
#[derive(PartialEq)]
struct Equation(Einsum);

impl Attr for Equation {
    fn write(&self) -> String {
        let terms: Vec<String> = self.0.terms.iter().map(|t| t.iter().collect()).collect();
        format!("{}->{}", terms.join("*"), self.0.result.iter().collect::<String>())
    }

    fn read(text: &str) -> Result<Self, String> {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '*';
        match text.split_once("->") {
            Some((terms, result))
                if format!("{terms}{result}").chars().all(sound) && !result.contains('*') =>
            {
                let terms = terms.split('*').map(|t| t.chars().collect()).collect();
                Ok(Equation(Einsum { terms, result: result.chars().collect() }))
            }
            _ => Err("an equation like ij*jk->ik".to_string()),
        }
    }
}

impl Described for Einsum {
    fn blanks() -> Vec<Self> {
        vec![Einsum { terms: Vec::new(), result: Vec::new() }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut equation = Equation(self.clone());
        f.required("equation", &mut equation)?;
        *self = equation.0;
        Ok(())
    }
}

impl Described for Where {
    fn blanks() -> Vec<Self> {
        vec![Where]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

impl Described for Cast {
    fn blanks() -> Vec<Self> {
        vec![Cast { to: DType::F32 }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("to", &mut self.to)
    }
}

impl Described for BitCast {
    fn blanks() -> Vec<Self> {
        vec![BitCast { to: DType::F32 }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("to", &mut self.to)
    }
}

impl Described for Quantize {
    fn blanks() -> Vec<Self> {
        vec![Quantize { to: DType::U8 }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("to", &mut self.to)
    }
}

impl Described for Dequantize {
    fn blanks() -> Vec<Self> {
        vec![Dequantize]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

impl Described for ByteTable {
    fn blanks() -> Vec<Self> {
        vec![ByteTable]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

impl Described for IntegerConv {
    fn blanks() -> Vec<Self> {
        vec![IntegerConv { window: blank_window(), groups: 1, x_zero: 0, result: Requantize::SUMS }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        window(&mut self.window, f, Some(IntegerConv::W))?;
        f.optional("groups", &mut self.groups, 1)?;
        f.optional("x_zero", &mut self.x_zero, 0)?;
        requantize(&mut self.result, f)
    }
}

/// What becomes of sums.
fn requantize(result: &mut Requantize, f: &mut Fields<'_>) -> Result<(), AttrFault> {
    f.required("to", &mut result.to)?;
    f.optional("zero", &mut result.zero, 0)?;
    // Without a word of them, steps go over the whole range of their type.
    let whole = match result.to {
        DType::I32 | DType::F32 => Requantize::SUMS,
        to => Requantize::steps(to, 0),
    };
    f.optional("low", &mut result.low, whole.low)?;
    f.optional("high", &mut result.high, whole.high)
}

impl Described for IntegerSum {
    fn blanks() -> Vec<Self> {
        vec![IntegerSum { factors: Vec::new(), shift: 0.0, result: Requantize::steps(DType::U8, 0) }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut factors = List(std::mem::take(&mut self.factors));
        f.required("factors", &mut factors)?;
        self.factors = factors.0;
        f.optional("shift", &mut self.shift, 0.0)?;
        requantize(&mut self.result, f)
    }
}

impl Described for DeformConv {
    fn blanks() -> Vec<Self> {
        vec![DeformConv { window: blank_window(), groups: 1, offset_groups: 1 }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        window(&mut self.window, f, Some(DeformConv::W))?;
        f.optional("groups", &mut self.groups, 1)?;
        f.optional("offset_groups", &mut self.offset_groups, 1)
    }
}

impl Described for GridSample {
    fn blanks() -> Vec<Self> {
        vec![GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: false }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.optional("mode", &mut self.mode, SampleMode::Linear)?;
        f.optional("padding", &mut self.padding, SamplePadding::Zeros)?;
        f.optional("align_corners", &mut self.align_corners, false)
    }
}

/// Bins of a region, height by width.
fn bins(bins: &mut [usize; 2], f: &mut Fields<'_>) -> Result<(), AttrFault> {
    let mut written = ByX(bins.to_vec());
    f.required("bins", &mut written)?;
    match written.0[..] {
        [height, width] => *bins = [height, width],
        // What has no two extents is refused as a region without bins.
        _ => *bins = [0, 0],
    }
    Ok(())
}

impl Described for RoiAlign {
    fn blanks() -> Vec<Self> {
        vec![RoiAlign { bins: [0, 0], samples: 0, scale: 1.0, half_pixel: true, max: false }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        bins(&mut self.bins, f)?;
        f.optional("samples", &mut self.samples, 0)?;
        f.optional("scale", &mut self.scale, 1.0)?;
        f.optional("half_pixel", &mut self.half_pixel, true)?;
        f.optional("max", &mut self.max, false)
    }
}

impl Described for MaxRoiPool {
    fn blanks() -> Vec<Self> {
        vec![MaxRoiPool { bins: [0, 0], scale: 1.0 }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        bins(&mut self.bins, f)?;
        f.optional("scale", &mut self.scale, 1.0)
    }
}

impl Described for Det {
    fn blanks() -> Vec<Self> {
        vec![Det]
    }

    fn fields(&mut self, _: &mut Fields<'_>) -> Result<(), AttrFault> {
        Ok(())
    }
}

impl Described for Col2Im {
    fn blanks() -> Vec<Self> {
        vec![Col2Im { image: Vec::new(), window: blank_window() }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut image = ByX(std::mem::take(&mut self.image));
        f.required("image", &mut image)?;
        self.image = image.0;
        window(&mut self.window, f, None)
    }
}

fn blank_window() -> Window {
    Window {
        kernel: Vec::new(),
        strides: Vec::new(),
        dilations: Vec::new(),
        pads_begin: Vec::new(),
        pads_end: Vec::new(),
    }
}

/// The attributes of a window; its kernel is that of the weight, if there is one.
fn window(w: &mut Window, f: &mut Fields<'_>, weight: Option<usize>) -> Result<(), AttrFault> {
    let mut kernel = ByX(std::mem::take(&mut w.kernel));
    let weight = weight.and_then(|index| f.operands.get(index).copied().flatten());
    match weight.and_then(|ty| ty.shape.get(2..)) {
        Some(extents) => f.optional("kernel", &mut kernel, ByX(extents.to_vec()))?,
        None => f.required("kernel", &mut kernel)?,
    }
    w.kernel = kernel.0;
    let rank = w.kernel.len();
    let mut strides = ByX(std::mem::take(&mut w.strides));
    f.optional("strides", &mut strides, ByX(vec![1; rank]))?;
    w.strides = strides.0;
    let mut dilations = ByX(std::mem::take(&mut w.dilations));
    f.optional("dilations", &mut dilations, ByX(vec![1; rank]))?;
    w.dilations = dilations.0;
    let mut pads = Pads(std::mem::take(&mut w.pads_begin), std::mem::take(&mut w.pads_end));
    f.optional("pads", &mut pads, Pads(vec![0; rank], vec![0; rank]))?;
    (w.pads_begin, w.pads_end) = (pads.0, pads.1);
    Ok(())
}

impl Described for Conv {
    fn blanks() -> Vec<Self> {
        vec![Conv {
            window: blank_window(),
            groups: 1,
            prologue: Prologue::default(),
            epilogue: Epilogue::default(),
        }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        window(&mut self.window, f, Some(Conv::W))?;
        f.optional("groups", &mut self.groups, 1)?;
        f.optional("prologue", &mut self.prologue, Prologue::default())?;
        f.optional("epilogue", &mut self.epilogue, Epilogue::default())
    }
}

impl Described for ConvTranspose {
    fn blanks() -> Vec<Self> {
        vec![ConvTranspose {
            window: blank_window(),
            output_padding: Vec::new(),
            groups: 1,
            activation: None,
        }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        window(&mut self.window, f, Some(1))?;
        let mut padding = ByX(std::mem::take(&mut self.output_padding));
        f.optional("output_padding", &mut padding, ByX(vec![0; self.window.kernel.len()]))?;
        self.output_padding = padding.0;
        f.optional("groups", &mut self.groups, 1)?;
        f.optional("activation", &mut self.activation, None)
    }
}

impl Described for Pool {
    fn blanks() -> Vec<Self> {
        let kinds = PoolKind::blanks().into_iter();
        kinds
            .map(|kind| Pool {
                kind,
                window: blank_window(),
                ceil_pads: Vec::new(),
                prologue: Prologue::default(),
                epilogue: Epilogue::default(),
            })
            .collect()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        self.kind.fields(f)?;
        window(&mut self.window, f, None)?;
        let mut ceil_pads = ByX(std::mem::take(&mut self.ceil_pads));
        f.optional("ceil_pads", &mut ceil_pads, ByX(vec![0; self.window.kernel.len()]))?;
        self.ceil_pads = ceil_pads.0;
        f.optional("prologue", &mut self.prologue, Prologue::default())?;
        f.optional("epilogue", &mut self.epilogue, Epilogue::default())
    }
}

impl Described for GlobalPool {
    fn blanks() -> Vec<Self> {
        let kinds = PoolKind::blanks().into_iter();
        kinds.map(|kind| GlobalPool { kind, prologue: Prologue::default(), activation: None }).collect()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        self.kind.fields(f)?;
        f.optional("prologue", &mut self.prologue, Prologue::default())?;
        f.optional("activation", &mut self.activation, None)
    }
}

/// Named values of an attribute.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl Attr for $name {
            fn write(&self) -> String {
                match self { $($name::$variant => $word,)* }.to_string()
            }

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(format!("one of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

words!(Outside { Nearest = "nearest", Nowhere = "nowhere" });

words!(ScatterReduction {
    Replace = "none",
    Add = "add",
    Mul = "mul",
    Max = "max",
    Min = "min",
});

words!(CoordinateMode {
    HalfPixel = "half_pixel",
    HalfPixelSymmetric = "half_pixel_symmetric",
    PytorchHalfPixel = "pytorch_half_pixel",
    AlignCorners = "align_corners",
    Asymmetric = "asymmetric",
    TfHalfPixelForNn = "tf_half_pixel_for_nn",
});

words!(SampleMode { Nearest = "nearest", Linear = "linear", Cubic = "cubic" });

words!(SamplePadding { Zeros = "zeros", Border = "border", Reflection = "reflection" });

words!(NearestMode {
    RoundPreferFloor = "round_prefer_floor",
    RoundPreferCeil = "round_prefer_ceil",
    Floor = "floor",
    Ceil = "ceil",
});

/// `nearest` with its rounding, `linear`, `cubic`; parameters of the mode are attributes beside it.
#[derive(Clone, Copy, PartialEq)]
enum ModeWord {
    Nearest,
    Linear,
    Cubic,
}

words!(ModeWord { Nearest = "nearest", Linear = "linear", Cubic = "cubic" });

impl Described for Resize {
    fn blanks() -> Vec<Self> {
        vec![Resize::new([], [], ResizeMode::Linear, CoordinateMode::HalfPixel)]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut sizes = ByX(std::mem::take(&mut self.sizes));
        f.required("sizes", &mut sizes)?;
        let mut scales = List(std::mem::take(&mut self.scales));
        let input = f.operands.first().copied().flatten();
        let ratios =
            input.map(|ty| sizes.0.iter().zip(ty.shape.iter()).map(|(&to, &from)| to as f32 / from as f32));
        f.optional("scales", &mut scales, List(ratios.map(Iterator::collect).unwrap_or_default()))?;
        (self.sizes, self.scales) = (sizes.0, scales.0);
        let mut mode = match self.mode {
            ResizeMode::Nearest(_) => ModeWord::Nearest,
            ResizeMode::Linear => ModeWord::Linear,
            ResizeMode::Cubic { .. } => ModeWord::Cubic,
        };
        f.required("mode", &mut mode)?;
        self.mode = match (mode, self.mode) {
            (ModeWord::Nearest, ResizeMode::Nearest(mut rounding)) => {
                f.optional("nearest", &mut rounding, NearestMode::RoundPreferFloor)?;
                ResizeMode::Nearest(rounding)
            }
            (ModeWord::Nearest, _) => {
                let mut rounding = NearestMode::RoundPreferFloor;
                f.optional("nearest", &mut rounding, NearestMode::RoundPreferFloor)?;
                ResizeMode::Nearest(rounding)
            }
            (ModeWord::Linear, _) => ResizeMode::Linear,
            (ModeWord::Cubic, old) => {
                let mut coeff_a = match old {
                    ResizeMode::Cubic { coeff_a } => coeff_a,
                    _ => -0.75,
                };
                f.optional("coeff_a", &mut coeff_a, -0.75)?;
                ResizeMode::Cubic { coeff_a }
            }
        };
        f.optional("coordinates", &mut self.coordinates, CoordinateMode::HalfPixel)?;
        f.optional("exclude_outside", &mut self.exclude_outside, false)?;
        f.optional("antialias", &mut self.antialias, false)?;
        // A region is there when its begin is.
        let crop =
            self.crop.take().unwrap_or(Crop { begin: Vec::new(), end: Vec::new(), extrapolation: 0.0 });
        let (mut begin, mut end, mut extrapolation) = (List(crop.begin), List(crop.end), crop.extrapolation);
        f.optional("crop_begin", &mut begin, List(Vec::new()))?;
        f.optional("crop_end", &mut end, List(Vec::new()))?;
        f.optional("extrapolation", &mut extrapolation, 0.0)?;
        self.crop = (!begin.0.is_empty()).then_some(Crop { begin: begin.0, end: end.0, extrapolation });
        Ok(())
    }
}

/// `reflect`, `edge`, `wrap`, `constant(0)`.
impl Attr for PadMode {
    fn write(&self) -> String {
        match self {
            PadMode::Constant(value) => format!("constant({})", value.write()),
            PadMode::Reflect => "reflect".to_string(),
            PadMode::Edge => "edge".to_string(),
            PadMode::Wrap => "wrap".to_string(),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "reflect" => return Ok(PadMode::Reflect),
            "edge" => return Ok(PadMode::Edge),
            "wrap" => return Ok(PadMode::Wrap),
            _ => {}
        }
        let value = text.strip_prefix("constant(").and_then(|t| t.strip_suffix(')'));
        value
            .and_then(|v| f64::read(v).ok())
            .map(PadMode::Constant)
            .ok_or_else(|| "one of constant(0), reflect, edge, wrap".to_string())
    }
}

impl Described for Pad {
    fn blanks() -> Vec<Self> {
        vec![Pad { begin: Vec::new(), end: Vec::new(), mode: PadMode::Edge }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut pads = Pads(std::mem::take(&mut self.begin), std::mem::take(&mut self.end));
        f.required("pads", &mut pads)?;
        (self.begin, self.end) = (pads.0, pads.1);
        f.optional("mode", &mut self.mode, PadMode::Constant(0.0))
    }
}

impl Described for Gather {
    fn blanks() -> Vec<Self> {
        let none = Tensor::new::<i64>([0], &[]);
        none.map(|indices| vec![Gather { axis: 0, indices }]).unwrap_or_default()
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        f.required("axis", &mut self.axis)?;
        f.required("indices", &mut self.indices)
    }
}

impl Described for ChannelSelect {
    fn blanks() -> Vec<Self> {
        vec![ChannelSelect { sources: Vec::new() }]
    }

    fn fields(&mut self, f: &mut Fields<'_>) -> Result<(), AttrFault> {
        let mut sources = super::select::Sources(std::mem::take(&mut self.sources));
        f.required("select", &mut sources)?;
        self.sources = sources.0;
        Ok(())
    }
}

/// `1:0..10`, `1:9..-1 by -3`: axis, first element, where the next would be, step.
impl Attr for AxisSlice {
    fn write(&self) -> String {
        let end = self.start as i128 + self.len as i128 * self.step as i128;
        let step = if self.step == 1 { String::new() } else { format!(" by {}", self.step) };
        format!("{}:{}..{end}{step}", self.axis, self.start)
    }

    fn read(text: &str) -> Result<Self, String> {
        let parse = || {
            let (axis, rest) = text.split_once(':')?;
            let (range, step) = rest.split_once(" by ").unwrap_or((rest, "1"));
            let (start, end) = range.split_once("..")?;
            let (start, end): (usize, i128) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
            let step: isize = step.trim().parse().ok()?;
            let span = end.checked_sub(start as i128)?;
            let exact = step != 0 && span % step as i128 == 0;
            let len = if exact { usize::try_from(span / step as i128).ok()? } else { return None };
            Some(AxisSlice { axis: axis.trim().parse().ok()?, start, step, len })
        };
        parse().ok_or_else(|| "a slice such as 1:0..10 or 2:8..0 by -2".to_string())
    }
}
