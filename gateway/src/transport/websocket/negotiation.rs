//! Which codec a client of the native protocol wants, and which sub-protocol tells it so.
//!
//! The query counts before the sub-protocols, of which the first that names a codec counts; else it is JSON
//! (Centrifuge protocol, WebSocket).

use super::handshake::Query;
use crate::protocol::centrifuge::Codec;

/// Names no codec. A page that sends its token as a sub-protocol offers it too: a browser wants one of them selected.
const GENERIC: &str = "clarion";

/// The codec that the client asks for.
pub(super) fn codec(query: &Query, offered: &[String]) -> Codec {
    let is_protobuf = |(name, value): &(String, String)| {
        matches!(name.as_str(), "format" | "cf_protocol") && value == "protobuf"
    };
    if query.iter().any(is_protobuf) {
        return Codec::Protobuf;
    }
    let is_named = |codec: &Codec, offered: &String| offered == name(*codec);
    let named = |offered| [Codec::Json, Codec::Protobuf].into_iter().find(|codec| is_named(codec, offered));
    offered.iter().find_map(named).unwrap_or(Codec::Json)
}

/// The one of the offered sub-protocols that is selected: what names `codec`, or else names none. `None` if there is
/// neither: then none is selected, rather than one that says something else than what is spoken.
pub(super) fn sub_protocol(codec: Codec, offered: &[String]) -> Option<&'static str> {
    [name(codec), GENERIC].into_iter().find(|spoken| offered.iter().any(|offered| offered == spoken))
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "centrifuge-json",
        Codec::Protobuf => "centrifuge-protobuf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::websocket::handshake;

    #[test]
    fn the_query_counts_before_the_sub_protocols_and_none_contradicts_it() {
        const JSON: Option<&str> = Some("centrifuge-json");
        const PROTOBUF: Option<&str> = Some("centrifuge-protobuf");
        for (query, offered, codec, selected) in [
            ("", "", Codec::Json, None),
            ("", "centrifuge-json", Codec::Json, JSON),
            ("", "centrifuge-protobuf", Codec::Protobuf, PROTOBUF),
            ("", "centrifuge-json centrifuge-protobuf", Codec::Json, JSON),
            ("", "centrifuge-protobuf centrifuge-json", Codec::Protobuf, PROTOBUF),
            ("", "bearer.a.b.c centrifuge-protobuf", Codec::Protobuf, PROTOBUF),
            ("", "clarion centrifuge-protobuf", Codec::Protobuf, PROTOBUF),
            ("", "bearer.a.b.c clarion", Codec::Json, Some("clarion")),
            ("", "bearer.a.b.c", Codec::Json, None),
            ("", "mqtt", Codec::Json, None),
            ("format=protobuf", "", Codec::Protobuf, None),
            ("cf_protocol=protobuf", "", Codec::Protobuf, None),
            ("format=protobuf", "centrifuge-protobuf", Codec::Protobuf, PROTOBUF),
            ("format=protobuf", "centrifuge-json", Codec::Protobuf, None),
            ("format=protobuf", "centrifuge-json clarion", Codec::Protobuf, Some("clarion")),
            ("format=json", "centrifuge-protobuf", Codec::Protobuf, PROTOBUF),
            ("format=xml&protocol=protobuf", "", Codec::Json, None),
        ] {
            let query = handshake::query(&format!("/?{query}").parse().unwrap()).unwrap();
            let offered: Vec<_> = offered.split_whitespace().map(str::to_owned).collect();
            let wanted = super::codec(&query, &offered);
            assert_eq!((wanted, sub_protocol(wanted, &offered)), (codec, selected), "{query:?} {offered:?}");
        }
    }
}
