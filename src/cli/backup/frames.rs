//! A backup as one stream of bytes: a line that says what it is, then the messages of the protocol, each behind its length.
//!
//! The length is a varint, as protobuf writes delimited messages. The last message says that the stream is whole. Invariant: memory is
//! bounded by one message. Does not know what the messages mean.

use std::io::{self, BufReader, BufWriter, Read, Stdin, Stdout, Write as _};

use prost::Message as _;

use crate::{api::proto::v1::BackupResponse, cli::error::CliError, limits::BACKUP_MESSAGE_BYTES_MAX};

const MAGIC: &[u8] = b"outrigger backup 1\n";
/// Bytes of a length.
const VARINT_BYTES_MAX: usize = 10;

/// Writes a backup to standard output.
#[derive(Debug)]
pub struct FrameWriter(BufWriter<Stdout>);

impl FrameWriter {
    /// Begins the stream.
    pub fn standard() -> Result<Self, CliError> {
        let mut out = BufWriter::new(io::stdout());
        out.write_all(MAGIC)?;
        Ok(Self(out))
    }

    /// Adds a message.
    pub fn write(&mut self, message: &BackupResponse) -> Result<(), CliError> {
        // A backup that nobody takes is none: a closed output is a failure here.
        let written = self.0.write_all(&message.encode_length_delimited_to_vec());
        written.map_err(|error| CliError::failed(format!("cannot write to standard output: {error}")))
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.0.flush().map_err(|error| CliError::failed(format!("cannot write to standard output: {error}")))
    }
}

/// Reads a backup.
#[derive(Debug)]
pub struct FrameReader<R>(R);

impl FrameReader<BufReader<Stdin>> {
    /// From standard input.
    pub fn standard() -> Result<Self, CliError> {
        Self::new(BufReader::new(io::stdin()))
    }
}

impl<R: Read> FrameReader<R> {
    /// Begins to read.
    pub fn new(mut input: R) -> Result<Self, CliError> {
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => Ok(Self(input)),
            Ok(()) | Err(_) => Err(CliError::failed(
                "standard input is no backup: expected a stream that `outrigger backup --to -` wrote",
            )),
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Result<BackupResponse, CliError> {
        let mut length = 0_u64;
        for at in 0..VARINT_BYTES_MAX {
            let mut byte = [0];
            self.0.read_exact(&mut byte).map_err(|error| ended(&error))?;
            length |= u64::from(byte[0] & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        if length > BACKUP_MESSAGE_BYTES_MAX as u64 {
            return Err(CliError::failed(format!(
                "standard input is damaged: a piece of {length} bytes, expected at most {BACKUP_MESSAGE_BYTES_MAX}"
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).map_err(|error| ended(&error))?;
        BackupResponse::decode(bytes.as_slice())
            .map_err(|error| CliError::failed(format!("standard input is damaged: {error}")))
    }
}

fn ended(error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            CliError::failed("standard input ends before the backup is whole; use a whole copy of it")
        }
        _ => CliError::failed(format!("cannot read standard input: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::v1::backup_response::Piece;

    #[test]
    fn messages_come_back_and_what_is_cut_or_no_backup_is_told() {
        let messages = [Piece::File("a".into()), Piece::Data(vec![7; 300].into())]
            .map(|piece| BackupResponse { piece: Some(piece) });
        let mut stream = MAGIC.to_vec();
        for message in &messages {
            stream.extend(message.encode_length_delimited_to_vec());
        }
        let mut reader = FrameReader::new(stream.as_slice()).unwrap();
        for message in &messages {
            assert_eq!(reader.message().unwrap(), *message);
        }
        assert!(reader.message().unwrap_err().to_string().contains("ends before the backup is whole"));
        for len in MAGIC.len()..stream.len() {
            let mut reader = FrameReader::new(&stream[..len]).unwrap();
            let ended = (0..2).find_map(|_| reader.message().err());
            assert!(ended.unwrap().to_string().contains("ends before"), "cut to {len}");
        }
        assert!(FrameReader::new(&b"node: flights\n and more"[..]).is_err());
        let large = [MAGIC, &[0xff, 0xff, 0xff, 0x7f]].concat();
        assert!(
            FrameReader::new(large.as_slice())
                .unwrap()
                .message()
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
