//! One file per question: how it is put to a gateway, and what is a good answer.

mod connections;
mod delivery;
mod growth;
mod history;
mod hostile;
mod notices;
mod outage;
mod presence;
mod rate;
mod recovery;
mod relay;
mod resubscription;
mod storm;
mod watch;

use anyhow::Result;

use super::options::{Options, Question};
use super::report::Figure;

/// Measures the figures that answer `question`.
///
/// # Errors
/// The gateway did something wrong: no figure counts then.
pub(crate) fn answer(question: Question, options: &Options) -> Result<Vec<Figure>> {
    match question {
        Question::Connections => connections::measure(options),
        Question::Api => delivery::measure_api(options).map(|figure| vec![figure]),
        Question::Delivery => delivery::measure(options),
        Question::Rate => rate::measure(options),
        Question::Growth => growth::measure(options),
        Question::Recovery => recovery::measure(options),
        Question::History => history::measure(options),
        Question::Expiry => history::measure_expiry(options),
        Question::Notices => notices::measure(options),
        Question::Presence => presence::measure(options),
        Question::Hostile => hostile::measure(options),
        Question::Storm => storm::measure(options),
        Question::Relay => relay::measure(options),
        Question::Resubscription => resubscription::measure(options),
        Question::Outage => outage::measure(options),
    }
}
