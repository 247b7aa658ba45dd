//! Parts of a page: one HTML file that needs nothing else, no network and no script.

use std::fmt::Write as _;

use super::environment::Environment;
use super::plot::{Plot, Series};

const STYLE: &str = include_str!("page.css");

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page(String);

impl Page {
    /// A page with its heading.
    pub(super) fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
        ))
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("</main>\n</html>\n");
        self.0
    }

    /// A line of HTML as it is.
    pub(super) fn add(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("a string takes any text");
    }

    /// A heading, and a sentence that says what is below it unless that is empty.
    pub(super) fn heading(&mut self, heading: &str, note: &str) {
        self.add(&format!("<h2>{}</h2>", escaped(heading)));
        if !note.is_empty() {
            self.add(&format!("<p class=\"note\">{}</p>", escaped(note)));
        }
    }

    /// Sentences, if there are any, below a heading.
    pub(super) fn list<'a>(&mut self, heading: &str, sentences: impl IntoIterator<Item = &'a String>) {
        let mut sentences = sentences.into_iter().peekable();
        if sentences.peek().is_none() {
            return;
        }
        self.heading(heading, "");
        self.add("<ul>");
        for sentence in sentences {
            self.add(&format!("<li>{}", escaped(sentence)));
        }
        self.add("</ul>");
    }

    /// A plot with a heading, a sentence on how to read it, and a legend if there is more than one series.
    pub(super) fn plot(&mut self, note: &str, plot: &Plot<'_>) {
        self.add("<section>");
        self.heading(plot.title, note);
        if plot.series.len() > 1 {
            let entry = |Series { name, color, .. }: &Series| {
                format!("<span><i style=\"background:{color}\"></i>{}</span>", escaped(name))
            };
            let legend: String = plot.series.iter().map(entry).collect();
            self.add(&format!("<p class=\"legend\">{legend}</p>"));
        }
        self.add(&plot.svg());
        self.add("</section>");
    }

    /// Terms and what there is to say of them, in HTML; in the order in which they are given.
    pub(super) fn terms(&mut self, heading: &str, terms: &[(&str, String)]) {
        self.heading(heading, "");
        self.add("<dl>");
        for (term, text) in terms {
            self.add(&format!("<dt>{term}<dd>{text}"));
        }
        self.add("</dl>");
    }

    /// Moments in seconds, and what happened then.
    pub(super) fn timeline(&mut self, moments: impl IntoIterator<Item = (f64, String)>) {
        self.heading("What happened when", "");
        self.add("<table class=\"timeline\">");
        for (second, text) in moments {
            self.add(&format!("<tr><td>{second:.1} s<td>{}", escaped(&text)));
        }
        self.add("</table>");
    }
}

/// Text as HTML writes it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text as HTML writes it, in the letters of a terminal.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// What is to be said of a machine, for [`Page::terms`].
pub(super) fn machine(environment: &Environment) -> Vec<(&'static str, String)> {
    let mut terms = vec![
        ("Machine", escaped(&environment.machine())),
        ("Versions", escaped(&environment.versions.join("\n")).replace('\n', "<br>")),
    ];
    terms.extend(environment.commit.as_ref().map(|commit| ("Commit", code(commit))));
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text() {
        let hostile = "<script>alert(\"1\")</script> & co";
        let mut page = Page::new(hostile);
        page.heading(hostile, hostile);
        page.list(hostile, [&hostile.to_owned()]);
        page.timeline([(1.0, hostile.to_owned())]);
        let environment = Environment {
            cpu_model: hostile.into(),
            versions: vec![hostile.into()],
            commit: Some(hostile.into()),
            ..Environment::default()
        };
        page.terms("a", &machine(&environment));
        let html = page.end();
        assert!(!html.contains("<script") && html.matches("&lt;script&gt;").count() == 10, "{html}");
    }

    #[test]
    fn a_list_of_nothing_has_no_heading() {
        let mut page = Page::new("a");
        page.list("What went wrong", []);
        assert!(!page.end().contains("What went wrong"));
    }
}
