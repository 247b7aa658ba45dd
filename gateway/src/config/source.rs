//! Where values come from: a file, then the environment, merged into one tree and then typed.

use std::path::Path;
use std::{fs, io};

use config::{File, FileFormat, Map, Source, Value};
use serde_json::Value as Json;

use super::{Config, ConfigError, Problem};

/// What the names of environment variables begin with. One underscore more than what orchestrators
/// inject for a service called `clarion`, so that theirs are never taken for ours.
const PREFIX: &str = "CLARION__";
const LEVEL_SEPARATOR: &str = "__";
/// A name is suggested when it is at least this much alike, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.5;

type JsonMap = serde_json::Map<String, Json>;

/// Those of the variables that are settings.
pub(super) fn variables(environment: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    environment.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// The path of the setting that a variable gives.
pub(super) fn path_of_variable(name: &str) -> String {
    name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace(LEVEL_SEPARATOR, ".")
}

/// Reads and types the configuration without validating it.
pub(super) fn read(path: Option<&Path>, variables: Vec<(String, String)>) -> Result<Config, ConfigError> {
    let shape = Config::shape();
    let environment = Environment::collect(variables, &shape)?;
    let tree = merge(path, environment)?;
    let mut problems = Vec::new();
    find_misplaced(&tree, &shape, "", &mut |path, level| {
        let message = match level {
            Some(siblings) => unknown_key(path, siblings, &shape),
            None => "must be a table, not a list".into(),
        };
        problems.push(Problem::new(path, message));
    });
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let path = error.path().to_string();
        Problem::new(path, in_words(&error.inner().to_string())).into()
    })
}

/// The file with the environment laid over it.
fn merge(path: Option<&Path>, environment: Environment) -> Result<Json, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = path {
        builder = builder.add_source(read_file(path)?);
    }
    let merged = builder.add_source(environment).build().and_then(config::Config::try_deserialize::<Json>);
    merged.map(without_nulls).map_err(|error| {
        let place = path.map(|path| path.display().to_string()).unwrap_or_default();
        Problem::new(place, without_content(&error.to_string())).into()
    })
}

/// Reads exactly the file that was named: the `config` crate would try other extensions as well.
fn read_file(path: &Path) -> Result<File<config::FileSourceString, FileFormat>, ConfigError> {
    let problem = |message: String| Problem::new(path.display().to_string(), message);
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => FileFormat::Yaml,
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        _ => return Err(problem("the name must end in .yaml, .toml or .json".into()).into()),
    };
    let text = fs::read_to_string(path).map_err(|error| problem(unreadable(path, &error)))?;
    if text.trim().is_empty() {
        return Err(problem("is empty: give the file that was meant, or none".into()).into());
    }
    // A mere `---` would be a document that is no table.
    let text = if format == FileFormat::Json || !is_comments(&text) { text.as_str() } else { "" };
    Ok(File::from_str(text.trim_start_matches('\u{feff}'), format))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    if path.is_dir() {
        // What container engines put where a file was to be mounted that is not there.
        return "is a directory: there may be no such file where it was mounted from".into();
    }
    format!("cannot be read: {error}")
}

/// Whether `text`, in whichever format, is nothing but comments.
pub(super) fn is_comments(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

/// The variables of the environment, as a tree.
///
/// The source of the `config` crate knows no JSON, and guesses types from the text, which makes the
/// secret `007` a `7`. Here the default tree says what a text is.
#[derive(Clone, Debug)]
struct Environment(JsonMap);

impl Environment {
    fn collect(mut variables: Vec<(String, String)>, shape: &Json) -> Result<Self, ConfigError> {
        // A section comes before the settings in it, which are more specific and win.
        variables.sort();
        let mut tree = Json::Object(JsonMap::new());
        let mut problems = Vec::new();
        for (name, text) in variables {
            let path = name[PREFIX.len()..].to_lowercase();
            let segments: Vec<&str> = path.split(LEVEL_SEPARATOR).collect();
            let known = segments.iter().try_fold(shape, |level, segment| level.get(segment));
            match typed(text, known) {
                Ok(value) => insert(&mut tree, &segments, value),
                Err(message) => problems.push(Problem::new(name, message)),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let Json::Object(tree) = tree else { unreachable!("`insert` keeps the root an object") };
        Ok(Self(tree))
    }
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let typed = |value: &Json| serde_json::from_value(value.clone());
        let value = |(key, value): (&String, &Json)| Ok((key.clone(), typed(value)?));
        let values: Result<_, serde_json::Error> = self.0.iter().map(value).collect();
        values.map_err(|error| config::ConfigError::Foreign(Box::new(error)))
    }
}

/// What `text` stands for at a place where the default tree holds `known`.
///
/// A text that does not fit stays a string, for the typed tree to refuse with its path.
fn typed(text: String, known: Option<&Json>) -> Result<Json, &'static str> {
    let parsed = || serde_json::from_str::<Json>(&text).ok();
    match known {
        Some(Json::Array(_)) => {
            parsed().filter(Json::is_array).ok_or("must be a list as JSON text, such as [\"a\", \"b\"]")
        }
        Some(Json::Object(_)) => {
            parsed().filter(Json::is_object).ok_or("must be an object as JSON text, such as {\"a\": 1}")
        }
        Some(Json::Bool(_)) => Ok(parsed().filter(Json::is_boolean).unwrap_or(Json::String(text))),
        Some(Json::Number(_)) => Ok(parsed().filter(Json::is_number).unwrap_or(Json::String(text))),
        Some(Json::String(default)) if default == "auto" => {
            Ok(parsed().filter(Json::is_number).unwrap_or(Json::String(text)))
        }
        _ => Ok(Json::String(text)),
    }
}

/// Puts `value` at the place that `segments` name, merging objects.
fn insert(tree: &mut Json, segments: &[&str], value: Json) {
    let Some((first, rest)) = segments.split_first() else {
        return overlay(tree, value);
    };
    if !tree.is_object() {
        *tree = Json::Object(JsonMap::new());
    }
    if let Json::Object(level) = tree {
        insert(level.entry(*first).or_insert(Json::Null), rest, value);
    }
}

/// Lays `value` over `tree`: keys of an object one by one, anything else as a whole.
fn overlay(tree: &mut Json, value: Json) {
    match (tree, value) {
        (Json::Object(tree), Json::Object(value)) => {
            for (key, value) in value {
                overlay(tree.entry(key).or_insert(Json::Null), value);
            }
        }
        (tree, value) => *tree = value,
    }
}

/// A key without a value is not set: `hmac_secret_key:` in YAML.
fn without_nulls(tree: Json) -> Json {
    match tree {
        Json::Object(level) => {
            let set = level.into_iter().filter(|(_, value)| !value.is_null());
            Json::Object(set.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Json::Array(list) => Json::Array(list.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

/// Calls `found` with the path of each key that `shape` does not have, and the level of `shape` it is on;
/// or without a level, for a list where a table belongs, which serde would take for its values in order.
fn find_misplaced<'a>(
    tree: &Json,
    shape: &'a Json,
    at: &str,
    found: &mut impl FnMut(&str, Option<&'a JsonMap>),
) {
    match (tree, shape) {
        (Json::Object(tree), Json::Object(level)) => {
            for (key, value) in tree {
                let path = join(at, key);
                match level.get(key) {
                    Some(shape) => find_misplaced(value, shape, &path, found),
                    None => found(&path, Some(level)),
                }
            }
        }
        (Json::Array(list), Json::Array(entries)) => {
            let Some(shape) = entries.first() else { return };
            for (index, value) in list.iter().enumerate() {
                find_misplaced(value, shape, &format!("{at}[{index}]"), found);
            }
        }
        (Json::Array(_), Json::Object(_)) => found(at, None),
        _ => {}
    }
}

/// What to say of a key that is on no list: the same name in another section, or the nearest here.
fn unknown_key(path: &str, siblings: &JsonMap, shape: &Json) -> String {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let alike = |name: &str| strsim::normalized_damerau_levenshtein(&key.to_lowercase(), name);
    let nearest = siblings.keys().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let nearest = nearest.filter(|name| alike(name) >= SIMILARITY_MIN).map(|name| join(parent, name));
    match elsewhere(shape, key, "").or(nearest) {
        Some(name) => format!("unknown key; did you mean `{name}`?"),
        None => {
            let known: Vec<_> = siblings.keys().map(String::as_str).collect();
            format!("unknown key; known here: {}", known.join(", "))
        }
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The path of a key called exactly `key` in another section.
fn elsewhere(shape: &Json, key: &str, at: &str) -> Option<String> {
    shape.as_object()?.iter().find_map(|(name, level)| {
        let path = join(at, name);
        if name == key { Some(path) } else { elsewhere(level, key, &path) }
    })
}

/// An error of serde in the words of this project, without the value of a wrong type: a key in the
/// wrong place would be shown.
fn in_words(message: &str) -> String {
    let message = match message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        Some((found, expected)) => {
            let kind = found.split([' ', '`', '"']).next().unwrap_or_default();
            format!("must be {expected}, not {}", if kind.is_empty() { "this" } else { kind })
        }
        None => match message.strip_prefix("invalid value: ").and_then(|rest| rest.split_once(", expected "))
        {
            Some((found, expected)) => format!("must be {expected}, not {found}"),
            None => message.replacen("unknown variant", "unknown value", 1),
        },
    };
    let mut message = message;
    for (rust, words) in [
        ("must be u16", "must be a whole number from 0 to 65535"),
        ("must be usize", "must be a whole number, 0 or above"),
        ("must be a duration", "must be a duration such as \"25s\" or \"300ms\""),
        ("must be a boolean", "must be true or false"),
        ("must be a sequence", "must be a list"),
        ("not sequence", "not a list"),
        ("not map", "not a table"),
        ("not floating", "not a fraction"),
    ] {
        message = message.replacen(rust, words, 1);
    }
    match message.split_once("must be struct ") {
        Some((_, rest)) => format!("must be a table{}", rest.trim_start_matches(char::is_alphanumeric)),
        None => message,
    }
}

/// What a parser says about a file, less the lines and values it quotes: a key may be among them.
fn without_content(message: &str) -> String {
    if message.contains("invalid type") || message.contains("Cannot parse") || message.contains("Parsing ") {
        return "must be a table of settings with plain keys".into();
    }
    let quoted = |line: &&str| {
        line.split_once('|').is_some_and(|(margin, _)| {
            margin.chars().all(|character| character.is_ascii_digit() || character == ' ')
        })
    };
    message.lines().filter(|line| !quoted(line) && !line.is_empty()).collect::<Vec<_>>().join(": ")
}
