//! Medians, ratios, the table and the plot.

use std::io;
use std::path::Path;

use crate::Options;
use crate::peer::Kind;
use crate::plot::{self, Group};
use crate::rig::machine::{self, Look};
use crate::rig::table::table;

/// All figures of a run.
pub(crate) struct Report {
    peers: Vec<Kind>,
    rows: Vec<Row>,
    about: String,
    look: Look,
}

/// One figure of every peer, with a number for each round.
struct Row {
    name: String,
    unit: &'static str,
    rounds: Vec<(Kind, f64)>,
}

impl Report {
    pub(crate) fn begin(options: &Options, load_cores: &str) -> io::Result<Report> {
        let about = format!(
            "{}\ncores: measured on {}, load and upstream on {load_cores}; {} rounds of {} s; {} keys\nload before: {}\n",
            machine::description(),
            options.cores,
            options.rounds,
            options.seconds,
            options.keys,
            std::fs::read_to_string("/proc/loadavg")?.trim()
        );
        println!("{about}");
        Ok(Report { peers: options.peers.clone(), rows: Vec::new(), about, look: Look::now() })
    }

    /// Adds the figures of one round.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, peer: Kind, value: f64) {
        eprintln!("  {:<9} {name}: {} {unit}", peer.name(), shown(value));
        let row = match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row,
            None => {
                self.rows.push(Row { name: name.to_owned(), unit, rounds: Vec::new() });
                self.rows.last_mut().expect("a row that was just pushed")
            }
        };
        row.rounds.push((peer, value));
    }

    /// Writes the figures so far to the directory, because a long run may be ended early.
    pub(crate) fn keep(&self, directory: Option<&Path>) -> io::Result<()> {
        let Some(directory) = directory else { return Ok(()) };
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("peers.txt"), self.text())?;
        std::fs::write(directory.join("peers.svg"), plot::draw(&self.groups()))
    }

    /// Writes the instructions of each request, in thousands, for `tests/it/instructions.rs` to compare.
    pub(crate) fn keep_instructions(&self, directory: Option<&Path>) -> io::Result<()> {
        let Some(directory) = directory else { return Ok(()) };
        let mut text = INSTRUCTIONS_HEAD.to_owned();
        for (row, name) in
            self.rows.iter().filter_map(|row| Some((row, row.name.strip_prefix(INSTRUCTIONS_OF)?)))
        {
            text += &format!("{name}: {:.1}\n", row.middle(Kind::Dashgate).unwrap_or_default());
        }
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("instructions.txt"), text)
    }

    /// Prints everything.
    pub(crate) fn end(&self) {
        println!("\n{}", self.text());
    }

    fn text(&self) -> String {
        let (busy, _) = self.look.shares_since(std::time::Duration::ZERO);
        let names: Vec<&str> = self.peers.iter().map(|peer| peer.name()).collect();
        let columns: Vec<_> = self.peers.iter().map(|peer| self.column(*peer)).collect();
        format!("{}machine busy: {:.0}%\n\n{}", self.about, busy * 100.0, table(&names, &columns))
    }

    /// Costs of a request, for the plot.
    fn groups(&self) -> Vec<Group> {
        let costs = self.rows.iter().filter(|row| row.name.starts_with("CPU of a") && row.unit == "µs");
        let group = |row: &Row| Group {
            name: format!("{} ({})", row.name, row.unit),
            bars: self.peers.iter().filter_map(|peer| Some((peer.name(), row.middle(*peer)?))).collect(),
        };
        costs.map(group).collect()
    }

    fn column(&self, peer: Kind) -> Vec<(String, String)> {
        self.rows.iter().map(|row| (format!("{} ({})", row.name, row.unit), row.cell(peer))).collect()
    }
}

impl Row {
    fn of(&self, peer: Kind) -> impl Iterator<Item = f64> {
        self.rounds.iter().filter(move |(of, _)| *of == peer).map(|(_, value)| *value)
    }

    fn middle(&self, peer: Kind) -> Option<f64> {
        median(self.of(peer))
    }

    /// The median, and behind it the median of the rounds' ratios to nginx.
    fn cell(&self, peer: Kind) -> String {
        let Some(middle) = self.middle(peer) else { return "-".to_owned() };
        let ratio = median(self.of(peer).zip(self.of(Kind::Nginx)).map(|(own, nginx)| own / nginx));
        match ratio.filter(|ratio| peer != Kind::Nginx && ratio.is_finite()) {
            Some(ratio) => format!("{} ({ratio:.2})", shown(middle)),
            None => shown(middle),
        }
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The percentile by the nearest rank.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Beginning of the names of rows that count the instructions of a request.
pub(crate) const INSTRUCTIONS_OF: &str = "instructions of a ";
const INSTRUCTIONS_HEAD: &str = "# Thousands of instructions of a request: cargo bench --bench peers -- instructions --write benches/peers\n";

/// A number with three significant digits.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
