//! What is installed, and how it is made.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What `--help` prints.
pub const USAGE: &str = "\
Builds libnnc and installs it, with nnc.h and files for pkg-config.

Usage: cargo run --release -p nnc-capi -- [OPTIONS]

  --prefix DIR    where it is used from [default: /usr/local]
  --libdir DIR    where in the prefix libraries go [default: lib]
  --destdir DIR   a folder in front of all of that, for packages
  --compiler      with the compiler in the library: nnc_compile
  --profile NAME  cargo's profile [default: release]
  --help          this text

Environment: CC is the C compiler that links the shared library [default: cc].
";

/// The version, as the names of files and symbols have it. Before 1.0, what breaks hosts raises the minor version; so that the SONAME
/// says so from then on, it is the major version alone.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAJOR: &str = env!("CARGO_PKG_VERSION_MAJOR");

/// What the C compiler links with anyway, in the way that suits the program: Rust names them for a linker that is called by itself.
const OF_THE_C_COMPILER: [&str; 2] = ["-lgcc_s", "-lc"];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    prefix: PathBuf,
    libdir: PathBuf,
    destdir: Option<PathBuf>,
    compiler: bool,
    profile: String,
}

/// Arguments that are none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not an error, but what else is there to do.
    #[error("help was asked for")]
    Help,
    /// A flag that does not exist.
    #[error("there is no option \"{0}\"; --help lists them")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// A prefix that other processes would look for elsewhere.
    #[error("--prefix {} is not absolute; begin it with /", .0.display())]
    Relative(PathBuf),
}

impl Request {
    /// Reads the command line.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, RequestError> {
        let mut request = Request {
            prefix: "/usr/local".into(),
            libdir: "lib".into(),
            destdir: None,
            compiler: false,
            profile: "release".into(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let flag = argument.to_string_lossy().into_owned();
            let mut value = || arguments.next().ok_or_else(|| RequestError::NoValue(flag.clone()));
            match flag.as_str() {
                "--prefix" => request.prefix = value()?.into(),
                "--libdir" => request.libdir = value()?.into(),
                "--destdir" => request.destdir = Some(value()?.into()),
                "--profile" => request.profile = value()?.to_string_lossy().into_owned(),
                "--compiler" => request.compiler = true,
                "--help" | "-h" => return Err(RequestError::Help),
                _ => return Err(RequestError::Unknown(flag)),
            }
        }
        match request.prefix.is_absolute() {
            true => Ok(request),
            false => Err(RequestError::Relative(request.prefix)),
        }
    }

    /// Builds and installs; says what is where.
    pub fn install(&self) -> Result<String, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let target = program.parent().and_then(Path::parent).ok_or("this program has no target folder")?;
        // Two kinds of the library have one name in there: until this one is installed, nobody else builds one.
        let lock = fs::File::create(target.join(".libnnc.lock"))?;
        lock.lock()?;
        let built = self.build(target)?;
        let place = |path: &Path| match &self.destdir {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        };
        let libdir = place(&self.prefix.join(&self.libdir));
        let include = place(&self.prefix.join("include"));
        let pkgconfig = libdir.join("pkgconfig");
        for folder in [&libdir, &include, &pkgconfig] {
            fs::create_dir_all(folder).map_err(|e| format!("cannot make \"{}\": {e}", folder.display()))?;
        }
        let shared = format!("libnnc.so.{VERSION}");
        put(&libdir.join(&shared), &|file| link(&built, file))?;
        let short = format!("libnnc.so.{MAJOR}");
        for (name, to) in [(short.as_str(), &shared), ("libnnc.so", &short)] {
            put(&libdir.join(name), &|file| Ok(symlink(to, file)?))?;
        }
        put(&libdir.join("libnnc.a"), &|file| Ok(fs::copy(&built.archive, file).map(drop)?))?;
        let write = |text: String| move |file: &Path| Ok(fs::write(file, &text)?);
        put(&include.join("nnc.h"), &write(include_str!("../include/nnc.h").into()))?;
        put(&pkgconfig.join("nnc.pc"), &write(self.pkg_config(&built.needs, Kind::Shared)))?;
        put(&pkgconfig.join("nnc-static.pc"), &write(self.pkg_config(&built.needs, Kind::Static)))?;
        let mut said = String::new();
        for (folder, names) in [
            (&include, &["nnc.h"][..]),
            (&libdir, &["libnnc.a", &shared, &short, "libnnc.so"]),
            (&pkgconfig, &["nnc.pc", "nnc-static.pc"]),
        ] {
            writeln!(said, "{}: {}", folder.display(), names.join(", "))?;
        }
        Ok(said)
    }

    /// Has cargo build the archive in the folder where this very program was built.
    fn build(&self, target: &Path) -> Result<Built, Box<dyn Error>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["rustc", "--lib", "--color", "never", "--profile", &self.profile, "--target-dir"]);
        cargo.arg(target);
        if self.compiler {
            cargo.args(["--features", "compiler"]);
        }
        cargo.args(["--", "--print", "native-static-libs"]);
        let mut running =
            cargo.stderr(Stdio::piped()).spawn().map_err(|error| format!("cannot run cargo: {error}"))?;
        let mut needs = None;
        // Cargo says the same again when nothing is to be built.
        for line in running.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            let line = line?;
            match line.split_once("native-static-libs:") {
                Some((_, libraries)) => needs = Some(own_needs(libraries)),
                None if line.starts_with("note: link against the following native artifacts") => {}
                None => eprintln!("{line}"),
            }
        }
        if !running.wait()?.success() {
            return Err("cargo could not build the library; what it says is above".into());
        }
        let folder = if self.profile == "dev" { "debug" } else { &self.profile };
        Ok(Built {
            archive: target.join(folder).join("libnnc_capi.a"),
            needs: needs.ok_or("rustc did not say what the library needs")?,
        })
    }

    fn pkg_config(&self, needs: &[String], kind: Kind) -> String {
        let (prefix, needs) = (self.prefix.display(), needs.join(" "));
        let libdir = match self.libdir.is_absolute() {
            true => self.libdir.display().to_string(),
            false => format!("${{prefix}}/{}", self.libdir.display()),
        };
        let compiler = if self.compiler { "yes" } else { "no" };
        let (name, libs) = match kind {
            Kind::Shared => ("nnc", format!("Libs: -L\"${{libdir}}\" -lnnc\nLibs.private: {needs}")),
            Kind::Static => ("nnc-static", format!("Libs: \"${{libdir}}/libnnc.a\" {needs}")),
        };
        format!(
            "prefix={prefix}\nlibdir={libdir}\nincludedir=${{prefix}}/include\ncompiler={compiler}\n\n\
             Name: {name}\nDescription: Runs neural networks that nnc has compiled\nVersion: {VERSION}\n\
             Cflags: -I\"${{includedir}}\"\n{libs}\n"
        )
    }
}

/// Which of the libraries a file of pkg-config is for.
#[derive(Clone, Copy)]
enum Kind {
    Shared,
    Static,
}

/// What cargo has made.
struct Built {
    archive: PathBuf,
    /// Flags of the libraries that the archive needs.
    needs: Vec<String>,
}

/// What rustc lists, without what is there anyway, each once.
fn own_needs(listed: &str) -> Vec<String> {
    let mut needs: Vec<String> = Vec::new();
    for flag in listed.split_whitespace() {
        if !OF_THE_C_COMPILER.contains(&flag) && !needs.iter().any(|known| known == flag) {
            needs.push(flag.into());
        }
    }
    needs
}

/// Which symbols others see, and the version that they have.
fn version_script() -> String {
    format!("NNC_{MAJOR} {{\n    global: nnc_*;\n    local: *;\n}};\n")
}

/// Links the shared library.
fn link(built: &Built, file: &Path) -> Result<(), Box<dyn Error>> {
    let script = file.with_extension("map");
    fs::write(&script, version_script())?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let linked = Command::new(&compiler)
        .args(["-shared", "-o"])
        .arg(file)
        .arg(format!("-Wl,-soname,libnnc.so.{MAJOR}"))
        .arg(format!("-Wl,--version-script={}", script.display()))
        // Whatever C may call, and what that needs; names for debuggers stay, lines of sources do not.
        .args(["-Wl,--gc-sections", "-Wl,--strip-debug", "-Wl,-z,relro,-z,now", "-Wl,-z,defs"])
        .arg("-Wl,--whole-archive")
        .arg(&built.archive)
        .arg("-Wl,--no-whole-archive")
        .args(&built.needs)
        .output();
    fs::remove_file(&script)?;
    let linked = linked.map_err(|e| format!("cannot run \"{}\": {e}; set CC", compiler.display()))?;
    match linked.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{} cannot link the library:\n{}",
            compiler.display(),
            String::from_utf8_lossy(&linked.stderr)
        )
        .into()),
    }
}

/// Makes a file under another name and renames it, so that programs that use the old one keep it.
fn put(file: &Path, make: &dyn Fn(&Path) -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let made = make(&temporary).and_then(|()| Ok(fs::rename(&temporary, file)?));
    made.map_err(|error| {
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&temporary);
        format!("cannot make \"{}\": {error}", file.display()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request, RequestError> {
        Request::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn what_is_asked_for_is_read_and_what_is_not_known_refused() {
        let request = parse(&["--prefix", "/opt/nnc", "--libdir", "lib64", "--compiler"]).unwrap();
        assert_eq!(request.prefix, Path::new("/opt/nnc"));
        assert_eq!((request.compiler, request.destdir.clone()), (true, None));
        assert_eq!(parse(&["--help"]), Err(RequestError::Help));
        for (arguments, text) in [
            (&["--prefx", "/opt"][..], "there is no option \"--prefx\"; --help lists them"),
            (&["--prefix"], "--prefix needs a value"),
            (&["--prefix", "here"], "--prefix here is not absolute; begin it with /"),
        ] {
            assert_eq!(parse(arguments).unwrap_err().to_string(), text);
        }
        for word in USAGE.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let known =
                !matches!(parse(&[word, "/x"]), Err(RequestError::Unknown(unknown)) if unknown == word);
            assert!(known || word == "--release", "{word}");
        }
    }

    #[test]
    fn pkg_config_has_what_a_static_program_needs() {
        let needs = own_needs(" -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc -lm");
        assert_eq!(needs, ["-lutil", "-lrt", "-lpthread", "-lm", "-ldl"]);
        let request = parse(&["--prefix", "/opt/nnc", "--libdir", "/lib/x", "--compiler"]).unwrap();
        let shared = request.pkg_config(&needs, Kind::Shared);
        for line in
            ["libdir=/lib/x\n", "compiler=yes\n", "\nLibs: -L\"${libdir}\" -lnnc\nLibs.private: -lutil -lrt"]
        {
            assert!(shared.contains(line), "{shared}");
        }
        let alone = request.pkg_config(&needs, Kind::Static);
        assert!(alone.contains("\nLibs: \"${libdir}/libnnc.a\" -lutil"), "{alone}");
    }
}
