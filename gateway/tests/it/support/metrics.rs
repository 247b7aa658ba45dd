/// Metrics in the Prometheus text format, as one answer held them.
pub(crate) struct Samples {
    samples: Vec<(String, f64)>,
}

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (series.to_owned(), value.parse().expect("a value is a number"))
        };
        Self { samples: lines.map(sample).collect() }
    }

    /// The sum over all series of a metric; `name{label="value"}` counts those with this label only.
    ///
    /// 0 if there is none.
    pub(crate) fn get(&self, name: &str) -> f64 {
        let (name, label) = name.split_once('{').unwrap_or((name, "}"));
        let label = label.trim_end_matches('}');
        let is_meant = |series: &str| {
            let (its_name, labels) = series.split_once('{').unwrap_or((series, ""));
            its_name == name && labels.contains(label)
        };
        self.samples.iter().filter(|(series, _)| is_meant(series)).map(|(_, value)| value).sum()
    }
}
