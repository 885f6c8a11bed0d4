//! `dashgate check --prices`: what each tenant would pay for what.

use super::columns;
use crate::config::{Config, TenantSettings};
use crate::dashscope::pattern::overlap;
use crate::usage::{Amount, Factor, PriceList, Zone};

/// A table of the prices of each tenant, for the models that it may call, in the order in which rows are tried.
pub fn table(config: &Config) -> String {
    let usage = &config.settings.usage;
    let heads = ["TENANT", "MODEL", "UNIT", "CLASS", "FROM", "OVER_TOKENS", "PRICE", "PER"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    for tenant in &config.tenants {
        if let Some(prices) = &tenant.billing.prices {
            lines.extend(rows(tenant, prices, usage.zone));
        }
    }
    if lines.len() == 1 {
        return "no tenant has prices\n".to_owned();
    }
    format!("prices in {}\n\n{}", usage.currency, columns::table(&lines, LEFT))
}

fn rows(tenant: &TenantSettings, prices: &PriceList, zone: Zone) -> Vec<Vec<String>> {
    let is_allowed =
        |model: &str| tenant.models.is_empty() || tenant.models.iter().any(|allowed| overlap(allowed, model));
    let factor = tenant.billing.factor;
    let mut rows = Vec::new();
    for row in prices.rows() {
        let rate = &row.rate;
        for model in row.models.iter().filter(|model| is_allowed(model)) {
            rows.push(vec![
                (*tenant.name).to_owned(),
                model.clone(),
                rate.unit.label().to_owned(),
                if rate.class.is_empty() { "any".to_owned() } else { (*rate.class).to_owned() },
                row.from.map_or_else(|| "-".to_owned(), |from| zone.moment(from)),
                if rate.over_tokens == 0 { "-".to_owned() } else { rate.over_tokens.to_string() },
                product(rate.price, factor),
                rate.per.to_string(),
            ]);
        }
    }
    rows
}

/// A price times a factor, exactly: up to fifteen decimals, without zeros at the end.
fn product(price: Amount, factor: Factor) -> String {
    let product = i128::from(price.nanos()) * i128::from(factor.millionths());
    let (whole, decimals) = (product / UNIT, product % UNIT);
    let text = format!("{whole}.{decimals:015}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Columns of names.
const LEFT: usize = 5;
/// Millionths of billionths.
const UNIT: i128 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_times_a_factor_is_exact() {
        for (price, factor, shown) in [
            ("0.60", "0.85", "0.51"),
            ("0.000000001", "0.000001", "0.000000000000001"),
            ("1000000", "1000", "1000000000"),
            ("3", "0", "0"),
        ] {
            let price = Amount::from_text(price).expect(price);
            assert_eq!(product(price, Factor::from_text(factor).expect(factor)), shown);
        }
    }
}
