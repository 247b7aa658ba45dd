//! What came of a play as text, for a terminal.

use super::{QUANTILES, STEP_COLUMNS, counts, distribution, figure, headline, knee, size, steps};
use crate::outcome::Outcome;
use crate::report::table::{Side, aligned, line};

/// Tables of figures, delays and counts, what went wrong, and the verdict; ends with a line end.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::from("\n");
    line(&mut text, &format!("{}: {}", outcome.play, size(outcome)));
    for environment in &outcome.environments {
        line(&mut text, &environment.machine());
    }
    figures(&mut text, outcome);
    ramp(&mut text, outcome);
    distributions(&mut text, outcome);
    text.push('\n');
    text.push_str(&aligned(&counts(outcome), [Side::Left, Side::Right]));
    sentences(&mut text, outcome);
    text
}

fn figures(text: &mut String, outcome: &Outcome) {
    if outcome.figures.is_empty() {
        return;
    }
    text.push('\n');
    let reach = if outcome.figures.iter().any(|figure| figure.reach.is_some()) { "reach" } else { "" };
    let heading = ["", "measured", reach, ""].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(heading).chain(outcome.figures.iter().map(figure)).collect();
    text.push_str(&aligned(&rows, [Side::Left, Side::Right, Side::Right, Side::Left]));
}

fn ramp(text: &mut String, outcome: &Outcome) {
    let steps = steps(outcome);
    if steps.is_empty() {
        return;
    }
    text.push('\n');
    let mut sides = [Side::Right; STEP_COLUMNS];
    sides[STEP_COLUMNS - 1] = Side::Left;
    text.push_str(&aligned(&steps, sides));
}

fn distributions(text: &mut String, outcome: &Outcome) {
    let shown = outcome.distributions.iter().filter(|(_, distribution)| !distribution.is_empty());
    let rows: Vec<[String; 7]> = shown.map(distribution).collect();
    if rows.is_empty() {
        return;
    }
    text.push('\n');
    let mut heading = [const { String::new() }; 7];
    heading[1..].clone_from_slice(&QUANTILES.map(str::to_owned));
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(rows).collect();
    let mut sides = [Side::Right; 7];
    sides[0] = Side::Left;
    text.push_str(&aligned(&rows, sides));
}

fn sentences(text: &mut String, outcome: &Outcome) {
    text.push('\n');
    for wrong in &outcome.wrong.first {
        line(text, &format!("  {wrong}"));
    }
    for warning in &outcome.warnings.first {
        line(text, &format!("warning: {warning}"));
    }
    if let Some(knee) = knee(outcome) {
        line(text, &knee);
    }
    line(text, &headline(outcome));
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;
    use crate::outcome::ramp::tests::{ramp, step};

    #[test]
    fn a_table_says_everything_in_columns() {
        let mut outcome = outcome();
        outcome.verdict.lost = 1;
        outcome.wrong.say("client 7 lost publication 9");
        outcome.warnings.say("swarm itself was busy");
        outcome.closings.insert("3000 (gone)".into(), 4);
        let text = text(&outcome);
        let expected = "
                                measured     reach
CPU of the server per delivery   1.90 µs    ≤ 2 µs  met
p99 delay                         510 µs  ≤ 100 µs  missed

       count     p50     p90     p99   p99.9     max
delay     36  200 µs  480 µs  510 µs  510 µs  510 µs

deliveries                 1,000,000
publications lost                  1
publications repeated              0
publications out of order          0
histories forked                   0
closed: 3000 (gone)                4

  client 7 lost publication 9
warning: swarm itself was busy
Not everything is as it must be: publications lost 1.
";
        assert!(text.starts_with("\nfan: 1,000 clients on 1 channel; 12.5 s\n"), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_ramp_is_a_table_of_its_steps() {
        let steps = vec![step(1000.0, &[3], None), step(2000.0, &[90], Some("p99 was 90 ms"))];
        let text = text(&Outcome { ramp: Some(ramp(steps)), ..outcome() });
        let expected = "
clients  deliveries/s      p50      p99      max       server  per delivery  per connection  swarm itself  verdict
  1,000             0  3.00 ms  3.00 ms  3.00 ms  0.100 cores        500 ms                   0.100 cores  holds
  2,000             0  90.0 ms  90.0 ms  90.0 ms  0.200 cores           1 s                   0.100 cores  p99 was 90 ms
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("The knee is at 1,000 clients"));
    }
}
