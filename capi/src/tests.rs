//! What C hosts meet when they break the rules; `tests/hosts.rs` has those that keep them.

use std::ffi::CStr;
use std::ptr::null_mut;

use nnc_runtime::abi::ElemType;

use super::*;

const HEADER: &str = include_str!("../include/nnc.h");

/// The sources with functions for C.
const SOURCES: [&str; 7] = [
    include_str!("artefact.rs"),
    include_str!("compile.rs"),
    include_str!("failure.rs"),
    include_str!("lib.rs"),
    include_str!("model.rs"),
    include_str!("options.rs"),
    include_str!("threads.rs"),
];

/// The message of the last failure.
fn message() -> String {
    // SAFETY: a C string that lives until this thread's next call.
    unsafe { CStr::from_ptr(nnc_last_error()) }.to_str().unwrap().to_owned()
}

/// The names behind `begin` and before an opening parenthesis, in order.
fn functions(text: &str, begin: &str) -> Vec<String> {
    let found = text.split(begin).skip(1).filter_map(|rest| rest.split_once('('));
    let mut found: Vec<String> = found.map(|(name, _)| format!("nnc_{name}")).collect();
    found.sort_unstable();
    found
}

#[test]
fn the_header_declares_every_function_and_no_other() {
    let code: String = HEADER.split("/*").map(|part| part.rsplit("*/").next().unwrap()).collect();
    let declared = functions(&code.replace(" *nnc_", " nnc_").replace("(nnc_", "("), " nnc_");
    let declared: Vec<_> = declared
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    assert_eq!(declared, functions(&SOURCES.concat(), "extern \"C\" fn nnc_"));
}

#[test]
fn the_header_has_every_type_and_the_version() {
    for code in 0..=u8::MAX {
        if let Some(elem) = ElemType::from_code(code) {
            let constant = format!("NNC_{} = {code}", elem.to_string().to_uppercase());
            assert!(HEADER.contains(&constant), "{constant}");
        }
    }
    for (part, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        assert!(HEADER.contains(&format!("#define NNC_VERSION_{part} {value}\n")), "{part}");
    }
    // SAFETY: a C string that lives for ever.
    let version = unsafe { CStr::from_ptr(nnc_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}

#[test]
fn null_pointers_are_refused_with_a_message() {
    let null = null_mut::<Model>();
    let no_name = std::ptr::null();
    // SAFETY: null is allowed everywhere.
    unsafe {
        assert!(nnc_model_open(no_name, 1).is_null());
        assert_eq!(message(), "path is null");
        assert!(nnc_model_map(no_name, 1).is_null());
        assert!(nnc_model_open_memory(std::ptr::null(), 0, 1).is_null());
        assert_eq!(message(), "artefact is null");
        assert!(nnc_model_share(null).is_null());
        assert_eq!(message(), "model is null");
        assert_eq!((nnc_model_inputs(null), nnc_model_outputs(null)), (0, 0));
        assert_eq!(nnc_model_input(null, 0, null_mut()), 1);
        assert_eq!(nnc_model_find_output(null, c"y".as_ptr(), null_mut()), 1);
        assert_eq!(nnc_model_output_shape(null, 0, null_mut()), 1);
        assert_eq!(nnc_model_run(null, std::ptr::null(), std::ptr::null()), 1);
        assert_eq!(nnc_model_use_pool(null, std::ptr::null()), 1);
        nnc_model_close(null);
        nnc_pool_close(null_mut());
    }
}

#[test]
fn bytes_that_are_no_program_are_refused() {
    // SAFETY: as many bytes as there are.
    let model = unsafe { nnc_model_open_memory(HEADER.as_ptr().cast(), HEADER.len(), 1) };
    assert!(model.is_null());
    assert!(message().starts_with("this is not a program compiled by nnc"), "{}", message());
}

#[test]
fn a_missing_file_is_an_error_with_its_cause() {
    for open in [nnc_model_open, nnc_model_map] {
        // SAFETY: a C string, and no file that could run.
        assert!(unsafe { open(c"/nowhere/net.so".as_ptr(), 1) }.is_null());
        assert!(message().contains("\"/nowhere/net.so\": No such file"), "{}", message());
    }
}

#[test]
fn a_pool_of_too_many_threads_is_refused() {
    assert!(nnc_pool_open(u32::MAX).is_null());
    assert!(message().contains("threads, not 4294967295"), "{}", message());
    let pool = nnc_pool_open(2);
    assert!(!pool.is_null());
    // SAFETY: it is open, and closed once.
    unsafe { nnc_pool_close(pool) };
}

#[cfg(feature = "compiler")]
mod compiler {
    use super::*;

    /// A small network whose batch is open.
    fn network() -> Vec<u8> {
        let spec = nnc_models::Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
        nnc_models::encode(&spec).unwrap()
    }

    #[test]
    fn what_cannot_be_compiled_is_an_error_with_a_message() {
        // SAFETY: C strings, buffers of their sizes, and handles that are open until they are closed.
        unsafe {
            assert!(nnc_onnx_open(std::ptr::null()).is_null());
            assert_eq!(message(), "path is null");
            assert!(nnc_onnx_open(c"/nowhere/net.onnx".as_ptr()).is_null());
            assert!(
                message().contains("/nowhere/net.onnx") && message().contains("No such file"),
                "{}",
                message()
            );
            assert!(nnc_onnx_open_memory(HEADER.as_ptr().cast(), HEADER.len()).is_null());
            assert!(!message().is_empty());
            assert!(nnc_compile(std::ptr::null(), std::ptr::null(), 1).is_null());
            assert_eq!(message(), "onnx is null");
            assert!(nnc_compile_artefact(std::ptr::null(), std::ptr::null()).is_null());
            assert!(nnc_artefact_data(std::ptr::null()).is_null());
            assert_eq!(nnc_artefact_bytes(std::ptr::null()), 0);
            assert_eq!(nnc_artefact_write(std::ptr::null(), c"x".as_ptr()), 1);
            nnc_artefact_close(null_mut());
            nnc_onnx_close(null_mut());
            nnc_options_close(null_mut());
        }
    }

    #[test]
    fn options_that_mean_nothing_are_refused_and_change_nothing() {
        // SAFETY: C strings, and handles that are open until they are closed.
        unsafe {
            let options = nnc_options_new();
            assert_eq!(nnc_options_target(options, c"z80".as_ptr()), 1);
            assert!(message().contains("z80"), "{}", message());
            assert_eq!(nnc_options_precision(options, c"f8".as_ptr()), 1);
            assert_eq!(message(), "there is no precision \"f8\"; take f32, bf16 or f16");
            assert_eq!(nnc_options_dim(options, c"\xff".as_ptr(), 1), 1);
            assert_eq!(message(), "name is not UTF-8");
            assert_eq!(nnc_options_shape(options, c"x".as_ptr(), std::ptr::null(), 2), 1);
            assert_eq!(message(), "shape is null");
            assert_eq!(nnc_options_threads(null_mut(), 1), 1);
            assert_eq!(message(), "options is null");
            assert_eq!(nnc_options_cache(options, std::ptr::null()), 1);
            assert_eq!(message(), "folder is null");
            assert!((*options).0.target.is_none() && (*options).0.bindings.shapes.is_empty());
            nnc_options_close(options);
        }
    }

    #[test]
    fn errors_name_the_functions_of_c() {
        let model = network();
        let options = nnc_options_new();
        // SAFETY: C strings, buffers of their sizes, and handles that are open until they are closed.
        unsafe {
            let onnx = nnc_onnx_open_memory(model.as_ptr().cast(), model.len());
            assert!(!onnx.is_null(), "{}", message());
            assert_eq!(nnc_options_dim(options, c"no_such_dim".as_ptr(), 3), 0);
            assert!(nnc_compile(onnx, options, 1).is_null());
            assert!(message().contains("nnc_options_dim(options, \"no_such_dim\", 3)"), "{}", message());
            nnc_onnx_close(onnx);
            nnc_options_close(options);
        }
    }

    #[test]
    fn an_artefact_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let model = network();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| std::ffi::CString::new(folder.path().join(name).to_str().unwrap()).unwrap();
        // SAFETY: C strings, buffers of their sizes, and handles that are open until they are closed.
        unsafe {
            let onnx = nnc_onnx_open_memory(model.as_ptr().cast(), model.len());
            let artefact = nnc_compile_artefact(onnx, std::ptr::null());
            assert!(!artefact.is_null(), "{}", message());
            assert_eq!(nnc_artefact_write(artefact, path("none/net.nnc.so").as_ptr()), 1);
            assert!(message().starts_with("cannot write \""), "{}", message());
            assert_eq!(nnc_artefact_write(artefact, path("net.nnc.so").as_ptr()), 0);
            let data = nnc_artefact_data(artefact).cast::<u8>();
            let data = std::slice::from_raw_parts(data, nnc_artefact_bytes(artefact));
            assert_eq!(std::fs::read(folder.path().join("net.nnc.so")).unwrap(), data);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
            nnc_artefact_close(artefact);
            nnc_onnx_close(onnx);
        }
    }
}
