/// header_checks, mime_header_checks, nested_header_checks and body_checks (header_checks(5)), as cleanup(8) and, with other
/// names and fewer actions, smtp(8) have them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/table/table.h"

namespace postern {

/// What a table says about a line.
struct CheckAction {
    enum class Kind : unsigned char {
        none, bcc, discard, filter, hold, ignore, info, pass, prepend, redirect, reject, replace, strip, warn,
    };
    Kind kind = Kind::none;
    std::string text;   ///< what follows the action's name
};

/// Which actions a program has: those that decide about a message are cleanup's alone.
enum class CheckActions : unsigned char { all, changes_only };

/// Parses "ACTION optional text".  An unknown action or one whose text is missing is none and is logged.
CheckAction parse_check_action(std::string_view value, std::string_view table, CheckActions allowed = CheckActions::all);

/// What a line of a message is; the tables follow it.
enum class LineKind : unsigned char {
    header,          ///< a field of the message's own header, but for those about MIME
    mime_header,     ///< a field about MIME, or of a part's header
    nested_header,   ///< a field of an attached message's header, but for those about MIME
    body,
};

/// Content-Type and the like: fields that mime_header_checks are for, wherever they stand.
bool is_mime_field(std::string_view name);

class ContentChecks {
public:
    /// Names and values of the four parameters, in the order of LineKind.
    struct Settings {
        const char* names[4];
        const std::string* values[4];
    };
    /// cleanup's.  Errors: as open_table().
    static Result<std::unique_ptr<ContentChecks>> open(const Config& config, const TableContext& context);
    static Result<std::unique_ptr<ContentChecks>> open(const Settings& settings, const TableContext& context, CheckActions allowed);

    bool checks(LineKind kind) const { return !tables_[static_cast<std::size_t>(kind)].empty(); }
    /// Something in the body is looked at: its lines, or the structure.
    bool checks_parts() const { return checks(LineKind::mime_header) || checks(LineKind::nested_header) || checks(LineKind::body); }
    bool empty() const { return !checks(LineKind::header) && !checks_parts(); }
    /// `text`: a whole field or a body line, without its last LF.  Errors: temporary.
    Result<CheckAction> look_up(LineKind kind, std::string_view text);

private:
    TableList tables_[4];
    CheckActions allowed_ = CheckActions::all;
};

}  // namespace postern
