//! What the octets of one message cost: commands, content, header section, replies.
//!
//! Run with `cargo bench -p penstock-core`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use penstock_core::message::header::HeaderScanner;
use penstock_core::smtp::command::parse_command;
use penstock_core::smtp::content::{ContentReader, Stuffer, Unstuffer};
use penstock_core::smtp::framing::LineBuffer;
use penstock_core::smtp::limits::COMMAND_LINE_GROWN_MAX;
use penstock_core::smtp::reply::ReplyParser;

const HEADER: &str = "Received: from app01.example.com (app01.example.com [192.0.2.17])\r\n\
    \tby mail.example.com (Penstock) with ESMTPSA id 0c5v3k2m9q8r1\r\n\
    \tfor <someone@customer.example>; Mon, 2 Jun 2025 09:14:05 +0000\r\n\
    Date: Mon, 2 Jun 2025 09:14:05 +0000\r\n\
    From: Billing <billing@example.com>\r\n\
    To: Someone <someone@customer.example>\r\n\
    Subject: Your invoice for May is ready\r\n\
    Message-ID: <20250602091405.4711.billing@example.com>\r\n\
    MIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\
    List-Unsubscribe: <https://example.com/unsubscribe/4711>\r\n\
    X-Mailer: billing 4.2\r\n\
    \r\n";

/// A message of 4 KiB with lines of the usual length, and its end.
fn content() -> Vec<u8> {
    let mut content = HEADER.as_bytes().to_vec();
    while content.len() < 4096 - 74 {
        content
            .extend_from_slice(b"The quick brown fox jumps over the lazy dog, and nobody ever asked it.\r\n");
    }
    content.extend_from_slice(b".\r\n");
    content
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    for (name, line) in [
        ("mail", "MAIL FROM:<billing@example.com> SIZE=4096 BODY=8BITMIME"),
        ("rcpt", "RCPT TO:<someone@customer.example>"),
        ("data", "DATA"),
    ] {
        group.bench_function(name, |bench| bench.iter(|| parse_command(black_box(line.as_bytes()))));
    }
    let flight =
        b"MAIL FROM:<billing@example.com> SIZE=4096\r\nRCPT TO:<someone@customer.example>\r\nDATA\r\n";
    group.bench_function("framed flight of three", |bench| {
        bench.iter(|| {
            let mut buffer = LineBuffer::new(COMMAND_LINE_GROWN_MAX);
            buffer.push(black_box(flight));
            while let Some(line) = buffer.next_line() {
                black_box(line.and_then(parse_command)).ok();
            }
        });
    });
    group.finish();
}

fn contents(criterion: &mut Criterion) {
    let content = content();
    let mut group = criterion.benchmark_group("content 4 KiB");
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("read", |bench| bench.iter(|| ContentReader::new().push(black_box(&content))));
    group.bench_function("read in pieces of 1460", |bench| {
        bench.iter(|| {
            let mut reader = ContentReader::new();
            for piece in black_box(&content).chunks(1460) {
                black_box(reader.push(piece));
            }
            reader.flags()
        });
    });
    let mut out = Vec::with_capacity(2 * content.len());
    group.bench_function("stuff", |bench| {
        bench.iter(|| {
            out.clear();
            Stuffer::default().push(black_box(&content), &mut out);
        });
    });
    group.bench_function("unstuff", |bench| {
        bench.iter(|| {
            out.clear();
            Unstuffer::default().push(black_box(&content), &mut out);
        });
    });
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let content = content();
    criterion.bench_function("header scan", |bench| {
        bench.iter(|| {
            let mut scanner = HeaderScanner::new(64 * 1024);
            scanner.push(black_box(&content));
            scanner.finish()
        });
    });
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let ehlo = "250-mx.customer.example\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-PIPELINING\r\n\
        250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n";
    for (name, text) in [("ok", "250 2.1.0 Sender ok\r\n"), ("ehlo", ehlo)] {
        let mut parser = ReplyParser::new();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                parser.push(black_box(text.as_bytes()));
                parser.next_reply()
            });
        });
    }
    group.finish();
}

criterion_group!(wire, commands, contents, headers, replies);
criterion_main!(wire);
