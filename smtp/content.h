/// Message content on its way from the queue file to the wire.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/checks/filter.h"
#include "lib/queue/deliver.h"

namespace postern::smtp {

/// Text with LF line ends to SMTP's form (RFC 5321 sections 2.3.8 and 4.5.2): CRLF line ends, a dot in front of
/// lines that begin with one, long lines folded by CR LF SPACE.  Pieces may be cut anywhere.
class DotEncoder {
public:
    struct Form {
        std::size_t line_limit = 0;      ///< smtp_line_length_limit; 0: no folding; 1 is taken as 2, since a folded line begins with a blank
        bool dots = true;                ///< a line of one dot ends the content (DATA); else it is counted (BDAT), and no dot is doubled
        bool stray_cr_is_space = false;  ///< a CR within a line goes out as a space: to some servers it ends a line, which smuggles commands
    };
    explicit DotEncoder(const Form& form) : form_(form) { form_.line_limit += form.line_limit == 1 ? 1 : 0; }
    void add(std::string_view piece, std::string& out);
    /// The last line's end, if it had none.
    void finish(std::string& out);
    /// A line had to be folded.
    bool folded() const { return folded_; }

private:
    void put(std::string_view text, std::string& out);
    void append(std::string_view text, std::string& out) const;
    void end_line(std::string& out);

    Form form_;
    std::size_t column_ = 0;      ///< bytes of the line so far, without doubled dots
    bool held_cr_ = false;        ///< a CR that ends the last piece: part of a line end, or not
    bool folded_ = false;
};

/// The content of one queue file, read in pieces: the headers first, then the body (see queue_file.h).
class Content {
public:
    /// Reads the headers, and a small message whole, with one call.  `request` outlives this.
    /// Errors: corrupt, too_big, io.
    Result<void> open(const queue::Deliver& request);

    std::string_view headers() const { return headers_; }
    /// The next piece, empty at the end; valid until the next call.  Errors: corrupt, io.
    Result<std::string_view> next();
    /// From the start again.  `looking`: what is read now is not sent, so that the filter does not log what it does.
    void rewind(bool looking = false);
    std::uint64_t size_bytes() const { return size_; }
    /// Other headers in front of the same body.
    void replace_headers(std::string headers);
    /// Instead of what the queue file has (converted content).  What was filtered is not filtered again.
    void replace(std::string text);
    /// What next() gives goes through a filter, a new one each time from the start.  `looking` as in rewind().
    using FilterMaker = std::function<std::unique_ptr<CheckFilter>(bool looking)>;
    void set_filter(FilterMaker make);

private:
    Result<std::string_view> next_raw();

    const queue::Deliver* request_ = nullptr;
    std::string text_;            ///< headers, or body and headers of a small message, or what replace() was given
    std::string own_headers_;     ///< what replace_headers() was given
    std::string piece_;
    std::string_view headers_, body_;
    std::uint64_t size_ = 0;
    std::uint64_t body_at_ = 0;   ///< how far next() is
    bool whole_ = false;          ///< body_ has everything
    bool headers_given_ = false;
    FilterMaker make_filter_;
    std::unique_ptr<CheckFilter> filter_;   ///< null: none, or it has come to the end
    std::string filtered_;
};

}  // namespace postern::smtp
