//! Assignments: orphans that an operator gives away.

use super::{LATER, exclusive, ids, is_unclear, lose_keyed, simulator, submit_keyed, wait_for_lists};
use crate::harness::eventually;

/// One of the two has made the task. The other one may have, and must not make a second.
#[test]
fn an_orphan_that_an_operator_assigns_takes_the_keys_of_all_submits_that_fit() {
    let simulator = simulator();
    let gateway = exclusive(&simulator, LATER);
    let lost = ["k", "l"].map(|key| lose_keyed(&gateway, &simulator, key));
    eventually("both are listed", || lost.iter().all(|task| ids(&gateway).contains(task)));
    let owner = r#"{"tenant":"one","key_id":"one-key"}"#;
    for task in &lost {
        let line = format!("POST /admin/orphans/main/{task}/assign");
        assert_eq!(gateway.administer(&line, owner).status(), 200);
    }
    wait_for_lists(&simulator, 3);
    for key in ["k", "l"] {
        assert!(is_unclear(&submit_keyed(&gateway, key)), "{key}");
    }
    assert_eq!(simulator.tasks().len(), 3);
}
