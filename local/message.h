/// The message a delivery agent works on, shared by the coroutines and threads of its recipients.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/queue/deliver.h"

namespace postern::local {

/// Read-only once it is loaded, so any thread may use it.
class Message {
public:
    /// Reads the headers, and the body too when it is small (one pread(2)).
    /// Errors: corrupt, too_big, io.
    static Result<std::shared_ptr<const Message>> load(queue::Deliver request, bool may_be_repeated);

    const queue::Deliver& request() const { return request_; }
    const queue::Recipient& recipient(std::size_t i) const { return request_.recipients[i].recipient; }

    /// Header fields, each ending in LF.
    std::string_view headers() const { return headers_; }
    /// The whole body (beginning with the empty line) when has_body(); else read it piece by piece.
    bool has_body() const { return has_body_; }
    std::string_view body() const { return body_; }
    std::uint64_t body_length() const { return request_.body.length; }
    std::uint64_t size_bytes() const { return request_.headers.length + request_.body.length; }

    /// Fills `buffer` from body position `offset`; 0 at the end.  Errors: io, corrupt (file ends early).
    Result<std::size_t> read_body(std::uint64_t offset, char* buffer, std::size_t size) const;

    /// This message may have been delivered before by an attempt that ended in a crash.
    bool may_be_repeated() const { return may_be_repeated_; }

    /// The body of a header field, unfolded and trimmed; empty when it is not there.  `nth` counts from 0.
    std::string field(std::string_view name, std::size_t nth = 0) const;
    /// A Delivered-To field names `address`: the message comes round a second time.
    bool was_delivered_to(std::string_view address) const;

private:
    queue::Deliver request_;
    std::string text_;
    std::string_view headers_;
    std::string_view body_;
    bool has_body_ = false;
    bool may_be_repeated_ = false;
};

using MessagePtr = std::shared_ptr<const Message>;

/// The sender or recipient as it stands in headers and log lines: quoted where RFC 5321 asks for it.
std::string quoted(std::string_view internal_address);

/// Copies body bytes with line-wise changes.  Lines end in LF on the way in.
class BodyFilter {
public:
    bool quote_from = false;      ///< "From " at the beginning of a line becomes ">From "
    bool stuff_dots = false;      ///< "." at the beginning of a line becomes ".."
    std::string eol = "\n";

    bool changes_nothing() const { return !quote_from && !stuff_dots && eol == "\n"; }
    /// Appends to `out`; pieces may be cut anywhere.
    void add(std::string_view piece, std::string& out);
    /// What was held back, and a line end when the last line had none.
    void finish(std::string& out);

private:
    void begin_line(std::string& out);
    std::string held_;            ///< beginning of a line that may still turn out to be "From "
    bool at_line_start_ = true;
};

}  // namespace postern::local
