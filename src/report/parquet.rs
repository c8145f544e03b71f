//! The joined rows as a Parquet file: numbers as 64-bit integers, what is not there as null, compressed with Snappy.

use super::error::ReportError;
use super::export::{COLUMNS, Joined};
use super::output::Output;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are kept until they are written together.
const GROUP: usize = 1 << 17;

/// A Parquet file that is being written.
pub(super) struct ParquetFile {
    path: PathBuf,
    writer: SerializedFileWriter<Output>,
    rows: Vec<(Joined, bool)>,
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Which columns are text.
const fn is_text(column: usize) -> bool {
    column == 1 || column == COLUMNS.len() - 1
}

impl ParquetFile {
    pub(super) fn create(path: &Path) -> Result<Self, ReportError> {
        let failed = |error| failed(path, error);
        let columns = COLUMNS.iter().enumerate().map(|(index, name)| match index {
            0 => format!("REQUIRED INT64 {name};"),
            _ if is_text(index) => format!("REQUIRED BYTE_ARRAY {name} (STRING);"),
            _ => format!("OPTIONAL INT64 {name};"),
        });
        let schema = format!("message pings {{ {} }}", columns.collect::<String>());
        let schema = Arc::new(parse_message_type(&schema).map_err(failed)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let output = Output::create(path, FLAG)?;
        let writer = SerializedFileWriter::new(output, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { path: path.into(), writer, rows: Vec::with_capacity(GROUP) })
    }

    #[inline]
    pub(super) fn write(&mut self, row: &Joined, is_duplex: bool) -> Result<(), ReportError> {
        self.rows.push((*row, is_duplex));
        if self.rows.len() == GROUP { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ReportError> {
        self.try_write_group().map_err(|error| failed(&self.path, error))?;
        self.rows.clear();
        Ok(())
    }

    fn try_write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            match index {
                0 => {
                    let sequences: Vec<i64> = self.rows.iter().map(|(row, _)| row.sequence as i64).collect();
                    column.typed::<Int64Type>().write_batch(&sequences, None, None)?;
                }
                _ if is_text(index) => {
                    // There are few different ones, and clones share their bytes.
                    let mut known: Vec<(&str, ByteArray)> = Vec::new();
                    let mut text = |(row, is_duplex): &(Joined, bool)| {
                        let text = if index == 1 { row.way(*is_duplex) } else { row.state.as_str() };
                        if let Some((_, bytes)) = known.iter().find(|(known, _)| *known == text) {
                            return bytes.clone();
                        }
                        let bytes = ByteArray::from(text);
                        known.push((text, bytes.clone()));
                        bytes
                    };
                    let texts: Vec<ByteArray> = self.rows.iter().map(&mut text).collect();
                    column.typed::<ByteArrayType>().write_batch(&texts, None, None)?;
                }
                _ => {
                    let numbers: Vec<Option<i64>> = self.rows.iter().map(|(row, _)| row.numbers()[index - 2]).collect();
                    let levels: Vec<i16> = numbers.iter().map(|number| i16::from(number.is_some())).collect();
                    let present: Vec<i64> = numbers.into_iter().flatten().collect();
                    column.typed::<Int64Type>().write_batch(&present, Some(&levels), None)?;
                }
            }
            column.close()?;
            index += 1;
        }
        group.close().map(drop)
    }

    pub(super) fn finish(mut self) -> Result<(), ReportError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        let Self { path, writer, .. } = self;
        writer.into_inner().map_err(|error| failed(&path, error))?.finish()
    }
}

const FLAG: &str = "--parquet";

fn failed(path: &Path, error: ParquetError) -> ReportError {
    let answer = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other.to_string()),
        },
        other => io::Error::other(other.to_string()),
    };
    ReportError::Write { path: path.into(), flag: FLAG, answer }
}
