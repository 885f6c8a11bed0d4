//! Examples in Python and in JavaScript run with the real libraries: `tests/clients/documents.py` and `documents.mjs` take
//! them from the pages.

use super::blocks::unmarked;
use crate::clients::ClientScript;

#[test]
fn the_python_examples_run_against_the_gateway() {
    assert!(!unmarked("python").is_empty());
    ClientScript::python("documents.py").run();
}

#[test]
fn the_javascript_examples_run_against_the_gateway() {
    assert!(!unmarked("js").is_empty());
    ClientScript::node("documents.mjs").run();
}
