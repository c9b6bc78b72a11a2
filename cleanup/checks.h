/// header_checks and body_checks (header_checks(5)).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/table/table.h"

namespace postern::cleanup {

/// What a table says about a line.
struct CheckAction {
    enum class Kind : unsigned char {
        none, bcc, discard, filter, hold, ignore, info, pass, prepend, redirect, reject, replace, warn,
    };
    Kind kind = Kind::none;
    std::string text;   ///< what follows the action's name
};

/// Parses "ACTION optional text".  An unknown action or one whose text is missing is none and is logged.
CheckAction parse_check_action(std::string_view value, std::string_view table);

class ContentChecks {
public:
    /// Errors: as open_table().
    static Result<std::unique_ptr<ContentChecks>> open(const Config& config, const TableContext& context);

    bool checks_headers() const { return !header_checks_.empty(); }
    bool checks_body() const { return !body_checks_.empty(); }
    /// `text`: a whole field without its last LF, or a body line.  Errors: temporary.
    Result<CheckAction> header(std::string_view text);
    Result<CheckAction> body(std::string_view text);

private:
    static Result<CheckAction> look_up(TableList& tables, std::string_view text);
    TableList header_checks_, body_checks_;
};

}  // namespace postern::cleanup
