/// A message that changes on its way out, as checks say: what smtp_header_checks and its kin do.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "lib/checks/mime_walker.h"

namespace postern {

class CheckFilter {
public:
    /// What was done ("warning", "replace", ...) to what ("header" or "body"), the line, the action's text.
    using Logger = std::function<void(const char* action, const char* what, std::string_view line, std::string_view text)>;

    /// `checks` outlives the filter; only CheckActions::changes_only are obeyed.  `body_limit`: body_checks_size_limit, for each part.
    /// Without a `logger` nothing is logged.
    CheckFilter(ContentChecks& checks, MimeWalker::Limits limits, std::uint64_t body_limit, Logger logger)
        : checks_(checks), walker_(limits), body_limit_(body_limit), logger_(std::move(logger)) {}

    /// The message from its first header field on, cut anywhere; what comes of it is added to `out`.  Errors: temporary.
    Result<void> feed(std::string_view bytes, std::string& out);
    Result<void> finish(std::string& out);

private:
    Result<void> pass(std::string& out);
    Result<void> check(const MimeWalker::Piece& piece, std::string& out);
    void apply(const CheckAction& action, const MimeWalker::Piece& piece, std::string_view line, std::string& out);

    void log(const char* action, const char* what, std::string_view line, std::string_view text) const {
        if (logger_) {
            logger_(action, what, line, text);
        }
    }

    ContentChecks& checks_;
    MimeWalker walker_;
    std::uint64_t body_limit_;
    Logger logger_;
    bool field_kept_ = true;
};

}  // namespace postern
