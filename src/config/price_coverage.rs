//! Warnings of models that a tenant may call and that no row of its list of prices names.

use super::prices::{Billing, Unpriced};
use super::reader::{ConfigReader, Text};

/// Warns of models of a tenant without a price. `whose` names the tenant; `prices` is its list, as written.
pub(super) fn warn(
    reader: &ConfigReader<'_>,
    whose: &str,
    models: &[String],
    prices: &Text,
    billing: &Billing,
) {
    let Some(list) = &billing.prices else { return };
    let is_refused = billing.has_limit() && billing.unpriced == Unpriced::Refuse;
    let name = &list.name;
    let (problem, hint) =
        if is_refused && !models.is_empty() && !models.iter().any(|model| list.covers(model)) {
            let problem = format!(
                "the list `{name}` prices none of the models of {whose}, so all its calls are refused"
            );
            (problem, "add rows of [[prices]] for its `models`, or write unpriced = \"allow\"")
        } else {
            let bare = models.iter().filter(|model| !model.contains('*') && !list.covers(model));
            let bare: Vec<String> = bare.map(|model| format!("`{model}`")).collect();
            if bare.is_empty() {
                return;
            }
            let end = if is_refused { ", so calls for them are refused" } else { "" };
            let problem = format!("the list `{name}` has no price for {} of {whose}{end}", bare.join(", "));
            (problem, "add rows of [[prices]] for them")
        };
    reader.warn(&prices.location, problem, hint);
}
