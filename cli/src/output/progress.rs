//! Progress bars on standard error.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often what has no figures is drawn.
const TICK: Duration = Duration::from_millis(120);

/// The bars of one command. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    all: Arc<MultiProgress>,
}

impl Bars {
    /// Hidden bars cost nothing and draw nothing; indicatif also hides them where there is no terminal.
    pub(crate) fn new(visible: bool) -> Self {
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { all: Arc::new(MultiProgress::with_draw_target(target)) }
    }

    /// A bar over a number of items; 0 when the number is not known.
    pub(crate) fn items(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(what, total, "{human_pos}/{human_len} {wide_msg} {per_sec}")
    }

    /// A bar over bytes.
    pub(crate) fn bytes(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(what, total, "{binary_bytes}/{binary_total_bytes} {wide_msg} {binary_bytes_per_sec}")
    }

    /// Says that something takes its time, and how long it has taken.
    pub(crate) fn waiting(&self, what: &str) -> ProgressBar {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{prefix:>14} {spinner} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(what.to_owned());
        let bar = self.all.add(bar);
        bar.enable_steady_tick(TICK);
        bar
    }

    fn bar(&self, what: &str, total: u64, figures: &str) -> ProgressBar {
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        let template = if total == 0 {
            "{prefix:>14} {spinner} {human_pos} {wide_msg} {elapsed}".to_owned()
        } else {
            format!("{{prefix:>14}} {{bar:28.cyan/dim}} {figures} {{eta}}")
        };
        // A template that does not parse is a mistake in this file; the default style shows the same figures.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(what.to_owned());
        self.all.add(bar)
    }

    /// Removes every bar from the screen.
    pub(crate) fn clear(&self) {
        // Failing to clear a terminal leaves a bar behind and breaks nothing.
        drop(self.all.clear());
    }
}
