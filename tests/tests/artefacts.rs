//! Artefacts: the same bytes each time, the same bits as the JIT, and nothing that is damaged gets in.

use std::thread;

use nnc::target::Target;
use nnc_models::Spec;
use nnc_runtime::Program;
use nnc_runtime::artefact::HEADER_OFFSET;
use nnc_tests::goldens;
use nnc_tests::pipeline::{self, Failure};

fn shufflenet() -> Spec {
    Spec::new("shufflenet-v2").width(0.5).resolution(64).classes(40)
}

fn mobilenet() -> Spec {
    Spec::new("mobilenet-v2").width(0.35).resolution(64).classes(40)
}

/// Everything from the model's bytes on, done anew.
fn compile(spec: &Spec, target: &Target) -> Result<Vec<u8>, Failure> {
    let graph = pipeline::optimise(&pipeline::read(spec)?)?;
    pipeline::artefact(&pipeline::plan(&graph, target)?, target)
}

#[test]
fn compiling_twice_gives_the_same_bytes() -> Result<(), Failure> {
    for spec in [shufflenet(), mobilenet()] {
        for target in [Target::host()?, Target::named("x86-64-v2")?] {
            let first = compile(&spec, &target)?;
            assert!(first == compile(&spec, &target)?, "{} for {}", spec.name, target.name);
        }
    }
    Ok(())
}

#[test]
fn compiling_in_several_threads_at_once_gives_the_same_bytes() -> Result<(), Failure> {
    let target = Target::host()?;
    let specs = [shufflenet(), mobilenet()];
    let alone: Vec<Vec<u8>> = specs.iter().map(|spec| compile(spec, &target)).collect::<Result<_, _>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|i| (i % 2, &specs[i % 2], &target))
            .map(|(which, spec, target)| (which, scope.spawn(move || compile(spec, target))))
            .collect();
        for (which, thread) in threads {
            let bytes = thread.join().map_err(|_| "a compiling thread panicked")??;
            assert!(bytes == alone[which], "{}", specs[which].name);
        }
        Ok(())
    })
}

#[test]
fn a_program_from_a_file_gives_the_bits_of_the_jit() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let target = Target::host()?;
    let input = goldens::input(3 * 64 * 64);
    for spec in [shufflenet(), mobilenet()] {
        let plan = pipeline::plan(&pipeline::optimise(&pipeline::read(&spec)?)?, &target)?;
        let path = folder.path().join(format!("{}.nnc", spec.name));
        std::fs::write(&path, pipeline::artefact(&plan, &target)?)?;
        // SAFETY: the file was written by the line above.
        let loaded = unsafe { Program::load(&path) }?;
        let expected = pipeline::run(&pipeline::jit(&plan, &target)?, &[&input], 1)?;
        assert_eq!(expected[0].len(), 40);
        for threads in [1, 2] {
            let got = pipeline::run(&loaded, &[&input], threads)?;
            assert!(pipeline::bits(&got) == pipeline::bits(&expected), "{}, {threads} threads", spec.name);
        }
    }
    Ok(())
}

#[test]
fn a_damaged_artefact_is_refused_wherever_the_damage_is() -> Result<(), Failure> {
    let artefact = compile(&shufflenet(), &Target::host()?)?;
    pipeline::load(&artefact)?;
    // Behind that are names for tools.
    let loaded = artefact[HEADER_OFFSET + 16..HEADER_OFFSET + 24].try_into()?;
    let loaded = u64::from_le_bytes(loaded) as usize;
    let places = (0..24).map(|i| i * loaded / 24).chain([loaded - 1]);
    for place in places {
        let mut damaged = artefact.clone();
        damaged[place] ^= 0x10;
        assert!(pipeline::load(&damaged).is_err(), "byte {place} of {}", artefact.len());
    }
    for len in [0, 1, 63, 64, 4096, artefact.len() / 2, artefact.len() - 1] {
        assert!(pipeline::load(&artefact[..len]).is_err(), "cut to {len} bytes");
    }
    Ok(())
}
