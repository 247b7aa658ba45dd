//! What nodes tell one another, in bytes: the types of `proto/envelope.proto` and those of the model.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::model::{
    ClientId, ClientInfo, Epoch, Json, Notice, Payload, Publication, RawJson, TraceParent, UserId,
};

mod schema {
    #![expect(unreachable_pub, clippy::all, reason = "made from proto/envelope.proto")]
    include!(concat!(env!("OUT_DIR"), "/clarion.envelope.rs"));
}

/// What envelopes of this version mean; see the schema.
const VERSION: u32 = 1;

/// What came on a channel.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Publications, with the epoch of their offsets; without one they are in no history.
    Publications(Option<Epoch>, Vec<Arc<Publication>>),
    /// Somebody joined or left.
    Notice(Notice),
}

/// The bytes are no envelope, or one of a version that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an envelope of a known version")]
pub(super) struct Malformed;

/// How an envelope of publications begins; [`publication`]s follow.
pub(super) fn head() -> Vec<u8> {
    schema::Envelope { version: VERSION, ..schema::Envelope::default() }.encode_to_vec()
}

/// One publication as a part of an envelope, or as an entry of a history. Its offset is not in it.
pub(super) fn publication(publication: &Publication) -> Vec<u8> {
    let publications = vec![write(publication)];
    schema::Envelope { publications, ..schema::Envelope::default() }.encode_to_vec()
}

/// An envelope with a notice.
pub(super) fn notice(notice: &Notice) -> Vec<u8> {
    let kind = match notice {
        Notice::Join(_) => schema::notice::Kind::Join,
        Notice::Leave(_) => schema::notice::Kind::Leave,
    };
    let info = Some(write_info(notice.info()));
    let notice = Some(schema::Notice { kind: kind.into(), info });
    schema::Envelope { version: VERSION, notice, ..schema::Envelope::default() }.encode_to_vec()
}

/// Reads what came on a channel.
///
/// # Errors
/// [`Malformed`], also for an envelope of another version.
pub(super) fn open(bytes: Bytes) -> Result<Parcel, Malformed> {
    let envelope = schema::Envelope::decode(bytes).map_err(|_| Malformed)?;
    if envelope.version != VERSION {
        return Err(Malformed);
    }
    if let Some(notice) = envelope.notice {
        return read_notice(notice).map(Parcel::Notice);
    }
    let epoch = (!envelope.epoch.is_empty()).then(|| Epoch::new(&envelope.epoch));
    let mut offset = envelope.first_offset;
    let mut publications = Vec::with_capacity(envelope.publications.len());
    for publication in envelope.publications {
        let mut publication = read(publication)?;
        if epoch.is_some() {
            publication.offset = offset;
            offset = offset.checked_add(1).ok_or(Malformed)?;
        }
        publications.push(Arc::new(publication));
    }
    if publications.is_empty() { Err(Malformed) } else { Ok(Parcel::Publications(epoch, publications)) }
}

/// Reads an entry of a history.
///
/// # Errors
/// [`Malformed`] if it is none.
pub(super) fn entry(offset: u64, bytes: Bytes) -> Result<Publication, Malformed> {
    let envelope = schema::Envelope::decode(bytes).map_err(|_| Malformed)?;
    let only = envelope.publications.into_iter().next().ok_or(Malformed)?;
    Ok(Publication { offset, ..read(only)? })
}

fn write(publication: &Publication) -> schema::Publication {
    let form = match publication.data.json() {
        Json::No => schema::Form::Other,
        Json::Line => schema::Form::Json,
        Json::Spread => schema::Form::SpreadJson,
    };
    let exclude = publication.exclude.as_ref();
    schema::Publication {
        data: publication.data.bytes().clone(),
        form: form.into(),
        is_binary: publication.data.is_binary(),
        info: publication.info.as_deref().map(write_info),
        tags: publication.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        exclude: exclude.map(|client| Bytes::copy_from_slice(client.as_bytes())).unwrap_or_default(),
        trace: publication.trace.as_ref().map(|trace| trace.to_bytes().to_vec().into()).unwrap_or_default(),
    }
}

fn read(publication: schema::Publication) -> Result<Publication, Malformed> {
    let json = match publication.form() {
        schema::Form::Other => Json::No,
        schema::Form::Json => Json::Line,
        schema::Form::SpreadJson => Json::Spread,
    };
    let exclude = match publication.exclude.len() {
        0 => None,
        _ => Some(Box::new(ClientId::from_slice(&publication.exclude).ok_or(Malformed)?)),
    };
    Ok(Publication {
        data: Payload::known(publication.data, json, publication.is_binary),
        info: publication.info.map(read_info).transpose()?.map(Box::new),
        tags: publication.tags.into_iter().collect(),
        exclude,
        // What is none is no reason to lose a publication.
        trace: TraceParent::from_slice(&publication.trace).map(Box::new),
        offset: 0,
    })
}

fn read_notice(notice: schema::Notice) -> Result<Notice, Malformed> {
    let kind = notice.kind();
    let info = Arc::new(read_info(notice.info.ok_or(Malformed)?)?);
    match kind {
        schema::notice::Kind::Join => Ok(Notice::Join(info)),
        schema::notice::Kind::Leave => Ok(Notice::Leave(info)),
        schema::notice::Kind::Unknown => Err(Malformed),
    }
}

fn write_info(info: &ClientInfo) -> schema::ClientInfo {
    let json = |json: &Option<RawJson>| {
        json.as_ref().map(|json| Bytes::copy_from_slice(json.as_bytes())).unwrap_or_default()
    };
    schema::ClientInfo {
        user: info.user.as_str().to_owned(),
        client: Bytes::copy_from_slice(info.client.as_bytes()),
        conn_info: json(&info.conn_info),
        chan_info: json(&info.chan_info),
    }
}

fn read_info(info: schema::ClientInfo) -> Result<ClientInfo, Malformed> {
    let json = |text: Bytes| match text.len() {
        0 => Ok(None),
        _ => RawJson::parse(&text).map(Some).map_err(|_| Malformed),
    };
    Ok(ClientInfo {
        user: UserId::parse(&info.user).map_err(|_| Malformed)?,
        client: ClientId::from_slice(&info.client).ok_or(Malformed)?,
        conn_info: json(info.conn_info)?,
        chan_info: json(info.chan_info)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn info() -> ClientInfo {
        ClientInfo {
            user: UserId::parse("ann").unwrap(),
            client: ClientId::random(),
            conn_info: RawJson::parse(b"{\"a\":1}").ok(),
            chan_info: None,
        }
    }

    fn full() -> Publication {
        Publication {
            data: Payload::of_bytes(Bytes::from_static(b"{\"a\":\n1}")),
            info: Some(Box::new(info())),
            tags: BTreeMap::from([("k".into(), "v".into())]),
            exclude: Some(Box::new(ClientId::random())),
            trace: Some(Box::new(TraceParent { trace: [1; 16], span: [2; 8] })),
            offset: 0,
        }
    }

    /// Everything that can be compared of publications.
    fn described(publications: &[Arc<Publication>]) -> Vec<String> {
        let describe = |publication: &Arc<Publication>| {
            let data = (publication.data.as_bytes(), publication.data.json(), publication.data.is_binary());
            format!("{data:?} {publication:?}")
        };
        publications.iter().map(describe).collect()
    }

    #[test]
    fn what_is_sent_is_what_comes() {
        let binary = Publication::of(Payload::binary(Bytes::from_static(b"\xff\x00")));
        let sent = [full(), binary, Publication::of(RawJson::string("x"))];
        let mut bytes = head();
        sent.iter().for_each(|one| bytes.extend(publication(one)));
        let Parcel::Publications(epoch, came) = open(bytes.clone().into()).unwrap() else { panic!() };
        assert_eq!(epoch, None);
        assert_eq!(described(&came), described(&sent.map(Arc::new)));
        // As the script adds them.
        bytes.extend(b"\x12\x02ep\x19\x07\0\0\0\0\0\0\0");
        let Parcel::Publications(epoch, came) = open(bytes.into()).unwrap() else { panic!() };
        assert_eq!(epoch, Some(Epoch::new("ep")));
        assert_eq!(came.iter().map(|one| one.offset).collect::<Vec<_>>(), [7, 8, 9]);
        for notice in [Notice::Join(Arc::new(info())), Notice::Leave(Arc::new(info()))] {
            let came = open(self::notice(&notice).into());
            assert!(matches!(came, Ok(Parcel::Notice(came)) if came == notice));
        }
    }

    #[test]
    fn an_entry_of_a_history_is_what_was_kept() {
        let kept = full();
        let read = entry(3, publication(&kept).into()).unwrap();
        let expected = Arc::new(Publication { offset: 3, ..kept });
        assert_eq!(described(&[Arc::new(read)]), described(&[expected]));
        assert_eq!(entry(3, head().into()).unwrap_err(), Malformed);
    }

    #[test]
    fn another_version_and_an_empty_envelope_are_skipped_and_what_is_added_later_does_not_matter() {
        let next = schema::Envelope { version: VERSION + 1, ..schema::Envelope::default() }.encode_to_vec();
        for bad in [next, head(), Vec::new(), b"not an envelope".to_vec(), vec![0xff; 64]] {
            assert!(open(bad.into()).is_err());
        }
        let mut extended = notice(&Notice::Join(Arc::new(info())));
        // A field 100 of a later version.
        extended.extend(b"\xa2\x06\x01x");
        assert!(open(extended.into()).is_ok());
    }

    /// A publication as nodes knew it before there were traces.
    #[derive(Clone, PartialEq, Message)]
    struct Untraced {
        #[prost(bytes = "bytes", tag = "1")]
        data: Bytes,
        #[prost(int32, tag = "2")]
        form: i32,
        #[prost(bytes = "vec", tag = "6")]
        exclude: Vec<u8>,
    }

    /// An envelope of such a node.
    #[derive(Clone, PartialEq, Message)]
    struct Older {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(message, repeated, tag = "4")]
        publications: Vec<Untraced>,
    }

    const TRACE: TraceParent = TraceParent { trace: [7; 16], span: [9; 8] };

    fn traced(trace: Option<TraceParent>) -> Publication {
        Publication { trace: trace.map(Box::new), ..Publication::of(RawJson::string("x")) }
    }

    fn sent(one: &Publication) -> Vec<u8> {
        [head(), publication(one)].concat()
    }

    fn only(bytes: Vec<u8>) -> Arc<Publication> {
        let Ok(Parcel::Publications(None, came)) = open(bytes.into()) else { panic!() };
        let [one] = &came[..] else { panic!("{came:?}") };
        Arc::clone(one)
    }

    #[test]
    fn f48_an_older_node_reads_what_is_traced_and_is_read() {
        let older = Older::decode(&sent(&traced(Some(TRACE)))[..]).unwrap();
        assert_eq!((older.version, older.publications.len()), (1, 1));
        assert_eq!(&older.publications[0].data[..], b"\"x\"");
        let came = only(older.encode_to_vec());
        assert_eq!((came.data.as_bytes(), came.data.json()), (&b"\"x\""[..], Json::Line));
        assert_eq!(came.trace, None);
    }

    #[test]
    fn f48_what_is_not_traced_is_sent_as_it_was_before() {
        let untraced = Untraced { data: b"\"x\""[..].into(), form: 1, exclude: Vec::new() };
        let older = Older { version: 1, publications: vec![untraced] };
        assert_eq!(sent(&traced(None)), older.encode_to_vec());
        let more = sent(&traced(Some(TRACE))).len() - older.encode_to_vec().len();
        assert_eq!(more, 2 + TraceParent::BYTES);
    }

    #[test]
    fn f48_what_a_newer_node_says_of_a_trace_harms_nothing() {
        let trace = TRACE.to_bytes();
        assert_eq!(only(sent(&traced(Some(TRACE)))).trace.as_deref(), Some(&TRACE));
        for (said, expected) in [
            (&trace[..23], None),
            (&[0; 24][..], None),
            (&[trace.as_slice(), b"more"].concat()[..], None),
            (&trace[..], Some(&TRACE)),
        ] {
            // Field 7 of the publication, and field 100, which nobody knows.
            let mut publication = write(&traced(None)).encode_to_vec();
            publication.extend([0x3a, u8::try_from(said.len()).unwrap()]);
            publication.extend(said);
            publication.extend(b"\xa2\x06\x01x");
            let mut bytes = head();
            bytes.extend([0x22, u8::try_from(publication.len()).unwrap()]);
            bytes.extend(publication);
            let came = only(bytes);
            assert_eq!((came.data.as_bytes(), came.trace.as_deref()), (&b"\"x\""[..], expected));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut after_head = head();
            after_head.extend(&bytes);
            let (_read, _also) = (open(bytes.into()), open(after_head.into()));
        }
    }
}
