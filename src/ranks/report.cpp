// SPDX-License-Identifier: BSD-3-Clause
// Messages to bytes and back.
#include <fmt/format.h>

#include <torchkeep/ranks/report.h>

#include "codec.h"

namespace torchkeep {
namespace {

using detail::FieldReader;
using detail::FieldWriter;

FieldWriter begin_message() {
  FieldWriter writer;
  writer.number(kRankProtocol);
  return writer;
}

FieldReader read_message(std::string_view bytes, const char* what) {
  FieldReader reader(bytes, fmt::format("the {} between ranks", what));
  const auto version = reader.number<std::uint32_t>();
  if (version == kRankProtocol) return reader;
  throw Error(
      Code::unsupported,
      fmt::format("expected version {} of the protocol between ranks, found {}: install one version of torchkeep "
                  "on all ranks",
                  kRankProtocol, version));
}

void write(FieldWriter& writer, const CheckpointId& id) {
  writer.number(id.step).string(id.token);
}
CheckpointId read_id(FieldReader& reader) {
  const auto step = reader.number<std::int64_t>();
  return {step, reader.string()};
}

void write(FieldWriter& writer, const std::optional<CheckpointId>& id) {
  writer.number<std::uint8_t>(id ? 1 : 0);
  if (id) write(writer, *id);
}
std::optional<CheckpointId> read_optional_id(FieldReader& reader) {
  if (!reader.flag()) return std::nullopt;
  return read_id(reader);
}

template <class Kind>
Kind read_kind(FieldReader& reader, Kind last) {
  const auto kind = reader.number<std::uint8_t>();
  if (kind > static_cast<std::uint8_t>(last)) reader.fail(fmt::format("unknown kind {}", kind));
  return static_cast<Kind>(kind);
}

}  // namespace

std::string encode(const RankReport& report) {
  return begin_message()
      .number<std::uint64_t>(report.rank)
      .string(report.token)
      .string(report.host)
      .string(report.error)
      .string(report.list)
      .take();
}

RankReport decode_report(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "report");
  RankReport report;
  report.rank = static_cast<std::size_t>(reader.number<std::uint64_t>());
  report.token = reader.string();
  report.host = reader.string();
  report.error = reader.string();
  report.list = reader.string();
  reader.end();
  return report;
}

std::string encode(const SaveBegin& begin) {
  FieldWriter writer = begin_message();
  write(writer, begin.checkpoint);
  return writer.string(begin.error).take();
}

SaveBegin decode_save_begin(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "beginning of a save");
  SaveBegin begin;
  begin.checkpoint = read_id(reader);
  begin.error = reader.string();
  reader.end();
  return begin;
}

std::string encode(const SaveVerdict& verdict) {
  return begin_message().string(verdict.token).number<std::uint8_t>(verdict.committed).string(verdict.why).take();
}

SaveVerdict decode_save_verdict(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "verdict on a save");
  SaveVerdict verdict;
  verdict.token = reader.string();
  verdict.committed = reader.flag();
  verdict.why = reader.string();
  reader.end();
  return verdict;
}

std::string encode(const Hello& hello) {
  return begin_message().string(hello.host).number(hello.world).take();
}

Hello decode_hello(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "greeting");
  Hello hello;
  hello.host = reader.string();
  hello.world = reader.number<std::uint64_t>();
  reader.end();
  return hello;
}

std::string encode(const ResumeChoice& choice) {
  FieldWriter writer = begin_message();
  writer.number(choice.attempt);
  write(writer, choice.checkpoint);
  return writer.string(choice.error).number(static_cast<std::uint8_t>(choice.code)).take();
}

ResumeChoice decode_resume_choice(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "choice of a checkpoint");
  ResumeChoice choice;
  choice.attempt = reader.number<std::uint64_t>();
  choice.checkpoint = read_optional_id(reader);
  choice.error = reader.string();
  choice.code = read_kind(reader, Code::invalid_argument);
  reader.end();
  return choice;
}

std::string encode(const ResumeReport& report) {
  FieldWriter writer = begin_message();
  writer.number(report.attempt).number(static_cast<std::uint8_t>(report.kind)).string(report.what);
  write(writer, report.found);
  return writer.take();
}

ResumeReport decode_resume_report(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "report of a resume");
  ResumeReport report;
  report.attempt = reader.number<std::uint64_t>();
  report.kind = read_kind(reader, ResumeReport::Kind::failed);
  report.what = reader.string();
  report.found = read_optional_id(reader);
  reader.end();
  return report;
}

std::string encode(const ResumeVerdict& verdict) {
  return begin_message()
      .number(verdict.attempt)
      .number(static_cast<std::uint8_t>(verdict.kind))
      .string(verdict.why)
      .number(static_cast<std::uint8_t>(verdict.code))
      .take();
}

ResumeVerdict decode_resume_verdict(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "verdict on a resume");
  ResumeVerdict verdict;
  verdict.attempt = reader.number<std::uint64_t>();
  verdict.kind = read_kind(reader, ResumeVerdict::Kind::failed);
  verdict.why = reader.string();
  verdict.code = read_kind(reader, Code::invalid_argument);
  reader.end();
  return verdict;
}

std::string encode(const MeetMessage& message) {
  return begin_message()
      .number(message.round)
      .number(message.step)
      .number<std::uint8_t>(message.late)
      .number(static_cast<std::uint8_t>(message.purpose))
      .string(message.reason)
      .take();
}

MeetMessage decode_meet_message(std::string_view bytes) {
  FieldReader reader = read_message(bytes, "agreement on a step");
  MeetMessage message;
  message.round = reader.number<std::uint64_t>();
  message.step = reader.number<std::int64_t>();
  message.late = reader.flag();
  message.purpose = read_kind(reader, MeetPurpose::stop);
  message.reason = reader.string();
  reader.end();
  return message;
}

}  // namespace torchkeep
