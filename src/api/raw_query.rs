//! The answers of gets and lists as the server sends them: documents as bytes that are ready to go.
//!
//! On the wire they are `v1::GetResponse` and `v1::ListResponse`, and clients have these; here the documents are the bytes
//! that `projection::query` made of stored ones. They are only ever encoded. Does not know where the bytes come from.

use prost::{Message, bytes::BufMut, encoding};

use super::{proto::v1, raw::only_encoded};

/// One document: `v1::GetResponse`.
#[derive(Debug, Clone, Default)]
pub(crate) struct GetResponse {
    /// The field `document`, whole.
    pub(crate) document: Vec<u8>,
    pub(crate) context: v1::ReadContext,
}

/// A page of documents: `v1::ListResponse`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListResponse {
    /// The fields `documents`, one behind the other.
    pub(crate) documents: Vec<u8>,
    /// Everything else.
    pub(crate) rest: v1::ListResponse,
}

/// The number of the field `context` in `v1::GetResponse`.
const CONTEXT: u32 = 2;

impl Message for GetResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.document);
        encoding::message::encode(CONTEXT, &self.context, buf);
    }

    only_encoded!();

    fn encoded_len(&self) -> usize {
        self.document.len() + encoding::message::encoded_len(CONTEXT, &self.context)
    }
}

impl Message for ListResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.documents);
        self.rest.encode_raw(buf);
    }

    only_encoded!();

    fn encoded_len(&self) -> usize {
        self.documents.len() + self.rest.encoded_len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        api::convert::query as convert,
        event::Position,
        projection::{
            key::{Key, KeyPart},
            query::{Document, wire_documents},
        },
    };

    fn any_document() -> impl Strategy<Value = Document> {
        let part = prop_oneof![
            any::<bool>().prop_map(KeyPart::Bool),
            any::<i64>().prop_map(KeyPart::Int),
            "\\PC{0,4}|[\\x00-\\x02]{0,3}|[a-z]{120,140}".prop_map(|text| KeyPart::Text(text.into())),
        ];
        let key = vec(part, 1..4).prop_map(|parts| Key::new(parts).unwrap());
        // A document is an object, so its text is never empty.
        (key, vec(any::<u8>(), 2..300), 1..=u64::MAX).prop_map(|(key, value, position)| Document {
            key,
            value: value.into(),
            position: Position::new(position),
        })
    }

    /// What a client decodes of a message whose length is what it says.
    fn decoded<T: Message + Default>(message: &impl Message) -> T {
        let bytes = message.encode_to_vec();
        assert_eq!(bytes.len(), message.encoded_len());
        T::decode(&*bytes).unwrap()
    }

    proptest! {
        #[test]
        fn documents_arrive_as_they_would_if_they_were_converted(
            documents in vec(any_document(), 1..4),
            as_of in any::<u64>(),
        ) {
            let context = v1::ReadContext { projection: "p".into(), version: 1, as_of, ..Default::default() };
            let expected: Vec<v1::Document> = documents.iter().cloned().map(convert::document).collect();
            let rest = v1::ListResponse {
                next_page_token: Some("00".into()),
                context: Some(context.clone()),
                scanned: 7,
                ..Default::default()
            };
            let list = ListResponse { documents: wire_documents(&documents), rest: rest.clone() };
            let found: v1::ListResponse = decoded(&list);
            prop_assert_eq!(&found, &v1::ListResponse { documents: expected.clone(), ..rest });
            // Byte for byte what the message's own encoder writes.
            prop_assert_eq!(list.encode_to_vec(), found.encode_to_vec());
            let get = GetResponse { document: wire_documents(&documents[..1]), context: context.clone() };
            let found: v1::GetResponse = decoded(&get);
            let document = expected.into_iter().next();
            prop_assert_eq!(found, v1::GetResponse { document, context: Some(context) });
        }
    }

    #[test]
    fn an_empty_page_is_its_rest() {
        let found: v1::ListResponse = decoded(&ListResponse::default());
        assert_eq!(found, v1::ListResponse::default());
        assert_eq!(Bytes::from(ListResponse::default().encode_to_vec()), Bytes::new());
    }
}
