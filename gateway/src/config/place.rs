//! Where a setting was given: the line of the file, or the variable. Nothing of its value is looked at.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

use super::ConfigError;
use super::source::path_of_variable;

/// Says of each problem where its setting was given, as far as that can be found out. The variables go before the file,
/// as their values do.
pub(super) fn find(mut error: ConfigError, file: Option<&Path>, variables: &[String]) -> ConfigError {
    let mut lines = None;
    for problem in &mut error.problems {
        let holds = |name: &&String| is_within(&problem.path, &path_of_variable(name));
        // The longest is the most specific.
        let variable = variables.iter().filter(holds).max_by_key(|name| name.len());
        problem.place = variable.cloned().or_else(|| {
            let file = file?;
            let line = lines.get_or_insert_with(|| lines_of(file)).get(&problem.path)?;
            Some(format!("{}, line {line}", file.display()))
        });
    }
    error
}

/// Whether `path` is `outer`, or something in it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The line of each setting in a file, by its path.
fn lines_of(file: &Path) -> HashMap<String, usize> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = Lines::default();
    if file.extension().is_some_and(|extension| extension == "toml") {
        if let Ok(table) = DeTable::parse(text) {
            lines.read_table(text, "", table.get_ref());
        }
    } else {
        // JSON is YAML, but for what is odd in either: then there are fewer lines.
        let _ends_early = Parser::new_from_str(text).load(&mut lines, false);
    }
    lines.found
}

/// The settings read so far.
#[derive(Default)]
struct Lines {
    found: HashMap<String, usize>,
    /// What of YAML is open, from the outermost.
    open: Vec<Open>,
}

/// A table or a list that has begun.
enum Open {
    /// With the key whose value comes next.
    Table { path: String, key: Option<String> },
    /// With the number of the entry that comes next.
    List { path: String, next: usize },
}

impl Lines {
    fn read_table(&mut self, text: &str, at: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(at, key.get_ref());
            self.read_value(text, path, key.span().start, value.get_ref());
        }
    }

    fn read_value(&mut self, text: &str, path: String, start: usize, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.read_table(text, &path, table),
            DeValue::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    self.read_value(text, format!("{path}[{index}]"), entry.span().start, entry.get_ref());
                }
            }
            _ => {}
        }
        let before = text.get(..start).unwrap_or_default();
        self.found.insert(path, before.matches('\n').count() + 1);
    }

    /// A scalar of YAML: a key, or a value.
    fn scalar(&mut self, text: String, line: usize) {
        match self.open.last_mut() {
            Some(Open::Table { path, key: key @ None }) => {
                self.found.insert(join(path, &text), line);
                *key = Some(text);
            }
            _ => drop(self.value(line)),
        }
    }

    /// A value of YAML begins: answers its path.
    fn value(&mut self, line: usize) -> String {
        match self.open.last_mut() {
            Some(Open::Table { path, key }) => join(path, &key.take().unwrap_or_default()),
            Some(Open::List { path, next }) => {
                let path = format!("{path}[{next}]");
                *next += 1;
                self.found.insert(path.clone(), line);
                path
            }
            None => String::new(),
        }
    }
}

impl MarkedEventReceiver for Lines {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        match event {
            Event::Scalar(text, ..) => self.scalar(text, line),
            Event::Alias(_) => drop(self.value(line)),
            Event::MappingStart(..) => {
                let path = self.value(line);
                self.open.push(Open::Table { path, key: None });
            }
            Event::SequenceStart(..) => {
                let path = self.value(line);
                self.open.push(Open::List { path, next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => drop(self.open.pop()),
            _ => {}
        }
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}
