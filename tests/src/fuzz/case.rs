//! One case: a graph, or the bytes of a model.

use std::fs;
use std::path::Path;

use nnc::target::Target;
use nnc_ir::{Graph, text};

use super::choices::Rng;
use super::corpus::Corpus;
use super::lowerings::{TURNS, targets};
use super::network::Recipe;
use super::stages::{self, Jumps, Tally};
use super::{models, mutate, shrink};
use crate::caught::caught;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Random networks.
    Networks,
    /// Models that were changed a little.
    Models,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Networks, Kind::Models];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Networks => "networks",
            Kind::Models => "models",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One case.
#[derive(Clone, Debug)]
pub enum Case {
    /// A network, by its recipe.
    Recipe(Recipe),
    /// A network.
    Graph(Graph),
    /// A model's file.
    Model(Vec<u8>),
}

/// Makes cases, and checks them.
#[derive(Debug)]
pub struct Cases {
    corpus: Corpus,
    targets: Vec<Target>,
}

impl Default for Cases {
    fn default() -> Cases {
        Cases { corpus: Corpus::default(), targets: targets() }
    }
}

impl Cases {
    /// The case of this number.
    pub fn make(&mut self, kind: Kind, seed: u64, number: u64) -> Case {
        let rng = &mut Rng::new(seed, number);
        match kind {
            Kind::Networks => Case::Recipe(Recipe::random(rng)),
            Kind::Models => Case::Model(mutate::model(&mut self.corpus, rng)),
        }
    }

    /// Checks a case for one of the targets, by turns; without a turn for all of them, whatever can be forced.
    ///
    /// # Errors
    ///
    /// What is wrong: the stage, a colon, and details.
    pub fn check(&self, case: &Case, turn: Option<u64>, tally: &mut Tally) -> Result<(), String> {
        let all = self.targets.len();
        let (targets, turns) = match turn.map(|turn| turn as usize) {
            Some(turn) => (&self.targets[turn % all..][..1], turn / all..turn / all + 1),
            None => (&self.targets[..], 0..TURNS),
        };
        let mut check = |turn| match case {
            Case::Recipe(recipe) => stages::check(&recipe.network(), targets, turn, Jumps::Nowhere, tally),
            Case::Graph(graph) => stages::check(graph, targets, turn, Jumps::Nowhere, tally),
            Case::Model(bytes) => models::check(bytes, targets, turn, tally),
        };
        caught(|| turns.into_iter().try_for_each(&mut check))?
    }
}

impl Case {
    /// Simpler cases.
    pub fn simpler(&self) -> Vec<Case> {
        match self {
            Case::Recipe(recipe) => recipe.simpler().into_iter().map(Case::Recipe).collect(),
            Case::Graph(graph) => shrink::simpler_graphs(graph).into_iter().map(Case::Graph).collect(),
            Case::Model(bytes) => shrink::simpler_models(bytes).into_iter().map(Case::Model).collect(),
        }
    }

    /// The graph of a recipe: what is simpler then has less in it, whichever recipe it would have.
    pub fn built(self) -> Case {
        match self {
            Case::Recipe(recipe) => Case::Graph(recipe.network()),
            other => other,
        }
    }

    /// The ending of its file.
    pub fn ending(&self) -> &'static str {
        match self {
            Case::Recipe(_) | Case::Graph(_) => "nnir",
            Case::Model(_) => "onnx",
        }
    }

    /// The bytes of its file; `about` is what a text says in front.
    pub fn to_bytes(&self, about: &str) -> Vec<u8> {
        match self {
            Case::Recipe(recipe) => Case::Graph(recipe.network()).to_bytes(about),
            Case::Graph(graph) => {
                let about: String = about.lines().map(|line| format!("// {line}\n")).collect();
                format!("{about}\n{}", text::print_full(graph)).into_bytes()
            }
            Case::Model(bytes) => bytes.clone(),
        }
    }

    /// A case from its file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its text is no graph.
    pub fn load(path: &Path) -> Result<Case, String> {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if path.extension().is_some_and(|ending| ending == "onnx") {
            return Ok(Case::Model(bytes));
        }
        let written = String::from_utf8(bytes).map_err(|e| e.to_string())?;
        Ok(Case::Graph(text::parse(&written).map_err(|e| format!("{}: {e}", path.display()))?))
    }
}
