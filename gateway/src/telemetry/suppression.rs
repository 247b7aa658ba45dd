//! No place in the code says more than a reader can take: what it says too often is counted, and its next line tells how much
//! was left out.
//!
//! Enter by [`Suppression`], a layer, and [`Counted`], the format of lines, which share what they know.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// For how long lines of a place are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Who asks for `debug` or `trace` looks for something: it is bounded all the same, because a node can have a hundred
/// thousand connections.
const DETAIL_FACTOR: u32 = 100;

/// Lines of this process that were left out.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines that were left out since the process began, because their place in the code had said enough.
pub fn suppressed_lines() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// What each place in the code has said. There are as many of them as the program has, whatever happens.
#[derive(Debug)]
struct Sites {
    burst: u32,
    windows: RwLock<HashMap<Identifier, Arc<Mutex<Window>>>>,
}

/// What one place has said lately.
#[derive(Debug, Default)]
struct Window {
    begun_at: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Window {
    /// Whether one more line may be written at `now`, where a window has at most `most`.
    fn admit(&mut self, now: Instant, most: u32) -> bool {
        if self.begun_at.is_none_or(|begun_at| now.duration_since(begun_at) >= WINDOW) {
            (self.begun_at, self.written) = (Some(now), 0);
        }
        let is_admitted = self.written < most;
        match is_admitted {
            true => self.written += 1,
            false => self.left_out += 1,
        }
        is_admitted
    }
}

impl Sites {
    fn window(&self, place: &Metadata<'_>) -> Arc<Mutex<Window>> {
        let id = place.callsite();
        if let Some(window) = self.windows.read().get(&id) {
            return Arc::clone(window);
        }
        Arc::clone(self.windows.write().entry(id).or_default())
    }

    /// Most lines of a place in a window; `None` if there is no limit.
    fn most(&self, place: &Metadata<'_>) -> Option<u32> {
        match *place.level() {
            _ if self.burst == 0 => None,
            Level::ERROR => None,
            Level::WARN | Level::INFO => Some(self.burst),
            Level::DEBUG | Level::TRACE => Some(self.burst.saturating_mul(DETAIL_FACTOR)),
        }
    }

    fn admit(&self, place: &Metadata<'_>, now: Instant) -> bool {
        self.most(place).is_none_or(|most| self.window(place).lock().admit(now, most))
    }

    /// How many lines of the place were left out that nobody was told of yet.
    fn take_left_out(&self, place: &Metadata<'_>) -> u64 {
        self.most(place).map_or(0, |_| mem::take(&mut self.window(place).lock().left_out))
    }
}

/// Leaves out what a place says too often.
#[derive(Debug)]
pub(super) struct Suppression(Arc<Sites>);

impl Suppression {
    /// With at most `burst` lines of each place in a window, as the configuration says it.
    pub(super) fn new(burst: u32) -> Self {
        Self(Arc::new(Sites { burst, windows: RwLock::default() }))
    }

    /// Lines look as in `format`, and tell how many of their place were left out before.
    pub(super) fn counted<F>(&self, format: F, is_json: bool) -> Counted<F> {
        Counted { format, is_json, sites: Arc::clone(&self.0) }
    }
}

impl<S: Subscriber> Layer<S> for Suppression {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let is_admitted = self.0.admit(event.metadata(), Instant::now());
        if !is_admitted {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }
}

/// A format with the field `suppressed` added to the line after some that were left out.
#[derive(Debug)]
pub(super) struct Counted<F> {
    format: F,
    is_json: bool,
    sites: Arc<Sites>,
}

impl<S, N, F> FormatEvent<S, N> for Counted<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let left_out = self.sites.take_left_out(event.metadata());
        if left_out == 0 {
            return self.format.format_event(context, writer, event);
        }
        // Neither format has a place for what is not a field of the event.
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        match line.strip_suffix('}').filter(|_| self.is_json) {
            Some(open) => writeln!(writer, r#"{open},"suppressed":{left_out}}}"#),
            None => writeln!(writer, "{line} suppressed={left_out}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Registry, fmt};

    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `speak` says, as JSON, where each place may say `burst` lines.
    fn written(burst: u32, speak: impl FnOnce(&Sites)) -> Vec<serde_json::Value> {
        let suppression = Suppression::new(burst);
        let sites = Arc::clone(&suppression.0);
        let page = Page::default();
        let output = page.clone();
        let lines = fmt::layer()
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(suppression.counted(fmt::format().json().flatten_event(true), true))
            .with_writer(move || output.clone());
        let subscriber = Registry::default().with(suppression).with(lines);
        tracing::subscriber::with_default(subscriber, || speak(&sites));
        let text = String::from_utf8(page.0.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Has every place begin a new window with its next line.
    fn let_time_pass(sites: &Sites) {
        sites.windows.read().values().for_each(|window| window.lock().begun_at = None);
    }

    #[test]
    fn a_window_has_so_many_lines_and_the_next_one_as_many_again() {
        let begin = Instant::now() + START;
        let mut window = Window::default();
        let admitted = |window: &mut Window, seconds: u64| {
            (0..5).filter(|_| window.admit(begin + Duration::from_secs(seconds), 3)).count()
        };
        assert_eq!(admitted(&mut window, 0), 3);
        assert_eq!(admitted(&mut window, 9), 0);
        assert_eq!(window.left_out, 7);
        assert_eq!(admitted(&mut window, 10), 3);
        assert_eq!(admitted(&mut window, 19), 0);
        assert_eq!(admitted(&mut window, 20), 3);
    }

    #[test]
    fn the_next_line_of_a_place_says_how_many_were_left_out() {
        let before = suppressed_lines();
        let lines = written(2, |sites| {
            let complain = |number: i32| tracing::warn!(number, "it is bad");
            (0..7).for_each(complain);
            tracing::info!("elsewhere");
            let_time_pass(sites);
            (7..9).for_each(complain);
        });
        let told: Vec<_> = lines.iter().map(|line| (&line["number"], &line["suppressed"])).collect();
        let told = serde_json::to_value(told).unwrap();
        let expected = serde_json::json!([[0, null], [1, null], [null, null], [7, 5], [8, null]]);
        assert_eq!(told, expected, "{lines:?}");
        assert!(suppressed_lines() >= before + 5);
    }

    #[test]
    fn errors_are_never_left_out_and_details_late() {
        let lines = written(1, |_| {
            (0..150).for_each(|_| tracing::error!("a person should look"));
            (0..150).for_each(|_| tracing::debug!("who looks for something"));
        });
        let of = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
        assert_eq!((of("ERROR"), of("DEBUG")), (150, 100));
    }

    #[test]
    fn without_a_limit_all_is_written() {
        assert_eq!(written(0, |_| (0..200).for_each(|_| tracing::info!("again"))).len(), 200);
    }

    #[test]
    fn as_text_it_is_the_last_field() {
        let suppression = Suppression::new(1);
        let sites = Arc::clone(&suppression.0);
        let page = Page::default();
        let output = page.clone();
        let lines = fmt::layer()
            .event_format(suppression.counted(fmt::format(), false))
            .with_writer(move || output.clone());
        let speak = |number: i32| tracing::info!(number, "again");
        tracing::subscriber::with_default(Registry::default().with(suppression).with(lines), || {
            (0..3).for_each(speak);
            let_time_pass(&sites);
            speak(3);
        });
        let text = String::from_utf8(page.0.lock().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            matches!(lines[..], [first, last]
            if first.ends_with("number=0") | first.contains("number") && last.ends_with(" suppressed=2")),
            "{text}"
        );
    }
}
