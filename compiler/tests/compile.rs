//! Compiling as a whole: by any number of threads, through a cache, with names for `perf`.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nnc::emit::object::{self, ConstantPlace};
use nnc::{
    CName, CacheUse, Compilation, Compiled, InputRef, Library, Model, Options, Pool, Program, Session,
};
use nnc_models::Spec;
use watchdog::Watchdog;

fn bytes(name: &str) -> Vec<u8> {
    nnc_models::encode(&small(name)).expect("a network")
}

fn small(name: &str) -> Spec {
    let spec = Spec::new(name).resolution(32).classes(10);
    if name == "mobilenet-v2" { spec.width(0.35) } else { spec }
}

fn model(name: &str) -> Model {
    Model::from_bytes(bytes(name)).expect("a model")
}

/// The bits of the results for an input that is the same each time.
fn bits(program: &Program) -> Vec<u32> {
    let input: Vec<f32> = (0..program.inputs()[0].elems()).map(|i| (i % 29) as f32 * 0.125 - 1.5).collect();
    let mut session = Session::new(program, &Pool::new(1).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&input)]).expect("results");
    outputs.get::<f32>(0).expect("floats").iter().map(|x| x.to_bits()).collect()
}

#[test]
fn code_and_constants_have_the_same_bytes_for_any_number_of_threads() {
    let _watchdog = Watchdog::seconds(600);
    for name in ["mobilenet-v2", "shufflenet-v1"] {
        let model = model(name);
        for target in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"] {
            let files = |threads| {
                let options = Options::default().threads(threads).target(target).expect("a target");
                let compilation = model.lower(&options).expect("a plan");
                let code = compilation.code().expect("code");
                (code.object().expect("an object"), code.artefact().expect("an artefact"))
            };
            let one = files(1);
            for threads in [2, 5, 0] {
                assert!(files(threads) == one, "{name} for {target} on {threads} threads");
            }
        }
    }
}

#[test]
fn code_in_memory_made_by_many_threads_computes_the_bits_of_an_artefact_made_by_one() {
    let _watchdog = Watchdog::seconds(600);
    let model = model("shufflenet-v1");
    let in_memory = model.compile(&Options::default().threads(4)).expect("a program");
    let compilation = model.lower(&Options::default().threads(1)).expect("a plan");
    let artefact = compilation.code().and_then(|code| code.artefact()).expect("an artefact");
    // SAFETY: the bytes come from the compiler, just now.
    let from_file = unsafe { Program::from_bytes(&artefact) }.expect("a program");
    assert_eq!(bits(&in_memory), bits(&from_file));
}

// ---- the cache -----------------------------------------------------------------------------------------------------

fn cached(model: &Model, folder: &Path, options: Options) -> Compiled {
    model.compile_reported(&options.cache(folder)).expect("a program")
}

fn hit(compiled: &Compiled) -> Option<&PathBuf> {
    match &compiled.cache {
        Some(CacheUse::Hit(path)) => Some(path),
        _ => None,
    }
}

fn stored(compiled: &Compiled) -> Option<&PathBuf> {
    match &compiled.cache {
        Some(CacheUse::Stored(path)) => Some(path),
        _ => None,
    }
}

#[test]
fn a_program_from_the_cache_computes_the_same_bits() {
    let (model, folder) = (model("mobilenet-v2"), tempfile::tempdir().expect("a folder"));
    let folder = folder.path().join("made/if/need/be");
    let fresh = model.compile_reported(&Options::default()).expect("a program");
    assert!(fresh.cache.is_none() && fresh.report.is_some());

    let first = cached(&model, &folder, Options::default());
    assert!(first.report.is_some());
    let second = cached(&model, &folder, Options::default());
    assert_eq!(hit(&second), stored(&first));
    assert!(second.report.is_none());
    assert_eq!(bits(&first.program), bits(&fresh.program));
    assert_eq!(bits(&second.program), bits(&fresh.program));
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "no temporary file is left");
}

#[test]
fn whatever_changes_the_program_is_another_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let compile = |model: &Model, options| cached(model, folder.path(), options);
    let plain = model("mobilenet-v2");
    assert!(stored(&compile(&plain, Options::default())).is_some());

    let mut other_weights = bytes("mobilenet-v2");
    let middle = other_weights.len() / 2;
    other_weights[middle] ^= 1;
    let other_weights = Model::from_bytes(other_weights).expect("a model still: weights are most of it");
    assert!(stored(&compile(&other_weights, Options::default())).is_some());
    assert!(stored(&compile(&model("shufflenet-v1"), Options::default())).is_some());
    let less = Options::default().disable_pass("fuse_activation").expect("a pass");
    assert!(stored(&compile(&plain, less)).is_some());
    let older = Options::default().target("x86-64-v2").expect("a target");
    assert!(stored(&compile(&plain, older)).is_some());
    assert!(stored(&compile(&plain, Options::default().winograd(false))).is_some());
    let input = plain.inputs()[0].name.clone();
    let bound = Options::default().shape(input, [1, 3, 32, 32]);
    assert!(stored(&compile(&plain, bound)).is_some());
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 7);
    // Threads change nothing.
    assert!(hit(&compile(&plain, Options::default().threads(3))).is_some());
}

#[test]
fn a_damaged_entry_is_compiled_anew_and_replaced() {
    let (model, folder) = (model("mobilenet-v2"), tempfile::tempdir().expect("a folder"));
    let compile = || cached(&model, folder.path(), Options::default());
    let first = compile();
    let (path, expected) = (stored(&first).expect("an entry").clone(), bits(&first.program));
    let whole = fs::read(&path).expect("the entry");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for damaged in [&[][..], b"something else", &whole[..whole.len() - 1], &flipped] {
        fs::write(&path, damaged).expect("written");
        let again = compile();
        assert_eq!(stored(&again), Some(&path), "{} bytes", damaged.len());
        assert_eq!(bits(&again.program), expected);
        assert!(fs::read(&path).expect("the entry") == whole);
        assert_eq!(hit(&compile()), Some(&path));
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_only_costs_the_time_to_compile() {
    let (model, folder) = (model("mobilenet-v2"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("a file");
    fs::write(&file, "not a folder").expect("written");
    let compiled = cached(&model, &file.join("cache"), Options::default());
    assert!(matches!(compiled.cache, Some(CacheUse::NotStored { .. })), "{:?}", compiled.cache);
    let fresh = model.compile(&Options::default()).expect("a program");
    assert_eq!(bits(&compiled.program), bits(&fresh));
}

#[test]
fn threads_that_fill_one_cache_at_once_all_get_their_program() {
    let _watchdog = Watchdog::seconds(600);
    let (model, folder) = (model("mobilenet-v2"), tempfile::tempdir().expect("a folder"));
    let expected = bits(&model.compile(&Options::default()).expect("a program"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let compiled = cached(&model, folder.path(), Options::default().threads(1));
                    assert!(hit(&compiled).or(stored(&compiled)).is_some(), "{:?}", compiled.cache);
                    assert_eq!(bits(&compiled.program), expected);
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

// ---- names for perf ------------------------------------------------------------------------------------------------

#[test]
fn the_perf_map_names_the_function_of_each_step_with_its_address_and_size() {
    let model = model("shufflenet-v1");
    let options = Options::default().perf_map(true);
    let program = model.compile(&options).expect("a program");
    let compilation = model.lower(&options).expect("a plan");
    let object = object::compile(compilation.plan(), compilation.target(), ConstantPlace::Outside);
    let symbols = object.expect("an object").functions;

    let path = nnc::emit::perf_map::path();
    let map = fs::read_to_string(&path).expect("the map");
    fs::remove_file(&path).expect("removed");
    let mut by_name = BTreeMap::new();
    let mut places = Vec::new();
    for line in map.lines() {
        let mut words = line.splitn(3, ' ');
        let mut number = || usize::from_str_radix(words.next().expect("a number"), 16).expect("hexadecimal");
        let (start, size) = (number(), number());
        places.push(start..start + size);
        by_name.insert(words.next().expect("a name").to_owned(), start..start + size);
    }
    for step in &program.desc().steps {
        let symbol = &symbols[step.func as usize];
        let place = by_name.get(symbol).unwrap_or_else(|| panic!("no {symbol} for step {}", step.name));
        assert!(!place.is_empty(), "{symbol}");
    }
    assert!(by_name.keys().any(|name| name.contains("_dense_f32_")), "kernels have names, too");

    places.sort_by_key(|place| place.start);
    assert!(places.windows(2).all(|two| two[0].end <= two[1].start), "functions overlap");
    let executable = executable();
    let runs = |place: &std::ops::Range<usize>| {
        executable.iter().any(|map| map.start <= place.start && place.end <= map.end)
    };
    assert!(places.iter().all(runs), "a name for what is no code");
    drop(program);
}

/// Where this process has code.
fn executable() -> Vec<std::ops::Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps");
    let number = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    let mut code = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range and rights");
        if rest.split(' ').next().is_some_and(|rights| rights.contains('x')) {
            let (start, end) = range.split_once('-').expect("a range");
            code.push(number(start)..number(end));
        }
    }
    code
}

/// A model on its way to code, by a name for C.
fn lowered(name: &str, spec: &Spec) -> (CName, Compilation) {
    let model = Model::from_bytes(nnc_models::encode(spec).expect("a network")).expect("a model");
    (CName::new(name).expect("a name"), model.lower(&Options::default()).expect("a plan"))
}

fn library(programs: &[(CName, Compilation)]) -> Result<Library, nnc::Error> {
    let programs: Vec<_> = programs.iter().map(|(name, compilation)| (name.clone(), compilation)).collect();
    Library::new(&programs)
}

#[test]
fn a_library_has_once_what_its_models_have_in_common() {
    let _watchdog = Watchdog::seconds(600);
    let net = || small("mobilenet-v2");
    let one = library(&[lowered("a", &net())]).expect("a library");
    let trained_otherwise =
        library(&[lowered("a", &net()), lowered("b", &net().seed(9))]).expect("a library");
    assert_eq!(trained_otherwise.functions(), one.functions());
    // What is there twice are the C functions, and tables.
    assert!(trained_otherwise.bytes() < one.bytes() + 16384, "{} {}", trained_otherwise.bytes(), one.bytes());
    let c = || lowered("c", &net().resolution(64));
    let [larger, both] =
        [vec![c()], vec![lowered("a", &net()), c()]].map(|all| library(&all).expect("a library"));
    let apart = one.functions() + larger.functions();
    assert!((one.functions() + 1..apart).contains(&both.functions()), "{} of {apart}", both.functions());
}

#[test]
fn a_library_of_one_model_is_its_object() {
    let (name, compilation) = lowered("a", &small("squeezenet-1.1"));
    let code = compilation.code_called(&name).expect("code");
    let library = Library::new(&[(name, &compilation)]).expect("a library");
    assert!(library.object() == code.object().expect("an object"));
    assert_eq!(library.header().expect("a header"), code.header().expect("a header"));
    assert!(
        library.static_library("a.nnc.o").expect("an archive") == code.static_library().expect("an archive")
    );
}

#[test]
fn models_that_cannot_be_in_one_library_are_refused() {
    let says = |programs: &[(CName, Compilation)]| {
        let error = library(programs).expect_err("a refusal");
        assert!(error.is_usage());
        error.to_string()
    };
    assert_eq!(says(&[]), "a library needs a model; give one");
    let net = small("squeezenet-1.1");
    assert_eq!(
        says(&[lowered("net", &net), lowered("NET", &net)]),
        "two models of the library have the name \"NET\" in C; rename the file of one of them"
    );
    let model = Model::from_bytes(nnc_models::encode(&net).expect("a network")).expect("a model");
    let options = Options::default().target("x86-64-v3").expect("a target");
    let other = (CName::new("other").expect("a name"), model.lower(&options).expect("a plan"));
    let refused = says(&[lowered("net", &net), other]);
    assert!(refused.ends_with("another for x86-64-v3; compile them for the same target"), "{refused}");
}
