//! Prices of a configuration: which models have none, and what each tenant would pay.

use std::fs;
use std::process::Command;

use super::{ACCOUNT, TENANT, warnings};

const PRICES: &str = r#"
[[prices]]
list = "default"
models = ["wan2.7-t2v", "wan2.7-i2v"]
unit = "video_second"
class = "720P"
price = "0.60"
[[prices]]
list = "default"
models = ["qwen3-*"]
unit = "input_token"
over_tokens = 128000
price = "3.20"
per = 1000000
from = "2026-12-01T00:00:00+08:00"
"#;

/// A tenant behind the prices, whose lines start at line 7.
fn priced(lines: &str) -> String {
    let prices = PRICES.trim_start();
    format!("{ACCOUNT}{TENANT}{lines}\n{prices}")
}

#[test]
fn models_without_a_price_are_a_warning() {
    let models = "models = [\"wan2.7-t2v\", \"wan2.7-vace\", \"qwen3-max\", \"qwen-*\", \"qwen-vl\"]";
    let plain = priced(&format!("prices = \"default\"\n{models}"));
    let problem =
        "tenants[0].prices: the list `default` has no price for `wan2.7-vace`, `qwen-vl` of the tenant `t`";
    assert_eq!(warnings(&plain), [format!("8:10: {problem}")]);
    let limited = priced(&format!("prices = \"default\"\nprepaid = true\nstream_usage = \"add\"\n{models}"));
    assert_eq!(warnings(&limited), [format!("8:10: {problem}, so calls for them are refused")]);
    let none = "prices = \"default\"\nbudgets = [{ amount = \"5\", period = \"day\" }]\nstream_usage = \"require\"\nmodels = [\"flux-*\"]";
    let problem = "tenants[0].prices: the list `default` prices none of the models of the tenant `t`, so all its calls \
                   are refused";
    assert_eq!(warnings(&priced(none)), [format!("8:10: {problem}")]);
    for fine in [
        format!("{none}\nunpriced = \"allow\""),
        none.replace("flux-*", "wan*-t2v"),
        none.replace("models = [\"flux-*\"]", ""),
        models.to_owned(),
    ] {
        assert_eq!(warnings(&priced(&fine)), [""; 0], "{fine}");
    }
}

/// A stream that tells no use is estimated by its events, which may be fewer than its tokens.
#[test]
fn streams_that_tell_no_use_are_a_warning_where_money_is_limited() {
    let budget = "budgets = [{ amount = \"5\", period = \"day\" }]\nprices = \"default\"";
    let problem = "OpenAI-compatible streams without `include_usage` are estimated, though the money of the tenant `t` is \
                   limited";
    assert_eq!(warnings(&priced(budget)), [format!("9:10: tenants[0].prices: {problem}")]);
    let written = format!("{budget}\nstream_usage = \"as_sent\"");
    assert_eq!(warnings(&priced(&written)), [format!("10:16: tenants[0].stream_usage: {problem}")]);
    for fine in [
        format!("{budget}\nstream_usage = \"add\""),
        format!("{budget}\nstream_usage = \"require\""),
        format!("{budget}\nallow = [\"generate\", \"tasks\"]"),
        "prices = \"default\"".to_owned(),
    ] {
        assert_eq!(warnings(&priced(&fine)), [""; 0], "{fine}");
    }
}

#[test]
fn check_shows_what_each_tenant_would_pay() {
    let check = |text: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dashgate.toml");
        fs::write(&path, text).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_dashgate"))
            .args(["check", "--prices", "-c"])
            .arg(&path)
            .output()
            .expect("the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_once('\n').expect("the first line").1.to_owned()
    };
    let allowed = "prices = \"default\"\nprice_factor = \"0.85\"\nmodels = [\"*-t2v\", \"qwen*\"]";
    let expected = "prices in CNY\n\n\
        TENANT  MODEL       UNIT          CLASS  FROM                       OVER_TOKENS  PRICE      PER\n\
        t       wan2.7-t2v  video_second  720P   -                                    -   0.51        1\n\
        t       qwen3-*     input_token   any    2026-12-01T00:00:00+08:00       128000   2.72  1000000\n";
    assert_eq!(check(&priced(allowed)), expected);
    assert_eq!(check(&priced("")), "no tenant has prices\n");
}
