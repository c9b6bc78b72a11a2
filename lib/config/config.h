/// The settings of one program: main.cf, the command line's -o, and the defaults.
///
/// mynetworks and myhostname ask the kernel when main.cf does not set them: read them once before giving up rights.
///
/// A Config never changes once it is made and may be read from all threads.  It has one getter per parameter,
/// named as the parameter: config.smtpd_timeout().  A value is expanded when it is first asked for, then kept, so
/// a program pays for the settings it reads and no others.  All values that main.cf sets are checked when it is
/// loaded; a getter cannot fail.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/parameter.h"

namespace postern {

using Seconds = std::chrono::seconds;

class Config {
public:
    using Overrides = std::vector<std::pair<std::string, std::string>>;   ///< name, value: as with -o name=value

    /// Reads `directory`/main.cf.  config_directory is `directory` whatever the file says.
    /// Errors: what open(2) said; config for a syntax error or a bad value, with file, line and parameter.
    static Result<Config> load(const std::string& directory, const Overrides& overrides = {});

    /// The same from text that has no file, for tests; lines are counted under the name "main.cf".
    static Result<Config> from_text(std::string_view text, const Overrides& overrides = {});

    /// Defaults only.
    static Config defaults();

    /// As load(), but values are not checked: for postconf and check, which have to show bad ones.  A getter of a
    /// bad value returns the default; ask bad_values() first.
    static Result<Config> load_unchecked(const std::string& directory, const Overrides& overrides = {});
    /// All bad values that were set, or that follow from what was set: "file:line: name = value: accepted: ...".
    std::vector<Error> bad_values() const;

    /// Where commands look for main.cf when no -c was given: $MAIL_CONFIG, else /etc/postern.
    static std::string default_directory();

    Config(Config&&) noexcept;
    Config& operator=(Config&&) noexcept;
    ~Config();

    /// What $process_name and $service_name mean.  Before the first getter is called.
    void set_process(std::string process_name, std::string service_name);

#define POSTERN_GETTER_boolean(getter) \
    bool getter() const { return number(Parameter::getter) != 0; }
#define POSTERN_GETTER_number(getter) \
    long getter() const { return number(Parameter::getter); }
#define POSTERN_GETTER_duration(getter) \
    Seconds getter() const { return Seconds(number(Parameter::getter)); }
#define POSTERN_GETTER_text(getter) \
    const std::string& getter() const { return text(Parameter::getter); }
#define POSTERN_GETTER_raw(getter) POSTERN_GETTER_text(getter)
#define POSTERN_GETTER_read_only(getter) POSTERN_GETTER_text(getter)
#define POSTERN_PARAMETER(name, getter, kind, ...) POSTERN_GETTER_##kind(getter)
#include "getters.inc"
#undef POSTERN_PARAMETER

    /// By row, for code that goes over the table.  number() of a text is 0; text() of a number is its text.
    long number(Parameter parameter) const;
    const std::string& text(Parameter parameter) const;

    /// The expanded value of any name: one in the table, one that main.cf defines for itself, or a transport's
    /// setting (relay_destination_rate_delay), which falls back on its default_ parameter.  Nothing for other names.
    std::optional<std::string> lookup(std::string_view name) const;
    /// The same as a number or a time; nothing also when it is no number or time.
    std::optional<long> lookup_number(std::string_view name) const;
    std::optional<Seconds> lookup_time(std::string_view name) const;

    /// Set in main.cf or by an override.
    bool is_set(std::string_view name) const;
    /// Where it was set, such as "/etc/postern/main.cf:12" or "-o"; empty when it was not.
    std::string value_line(std::string_view name) const;
    /// As written in main.cf or the table, before expansion; nothing for an unknown name.
    std::optional<std::string> raw_value(std::string_view name) const;
    /// What was set, sorted by name.
    std::vector<std::string> set_names() const;

    /// Expands `text` with this configuration's values: $name, ${name?text:...} and so on (see expand.h).
    Result<std::string> expand(std::string_view text) const;

    /// What loading noticed without refusing it, such as a setting given twice: "file:line: text".
    const std::vector<std::string>& notices() const;

private:
    struct State;
    explicit Config(std::unique_ptr<State> state);
    static Result<Config> make(std::string_view text, const std::string& file, const std::string& directory,
                               const Overrides& overrides, bool check);
    std::optional<Error> log_file_problem() const;
    std::unique_ptr<State> state_;
};

}  // namespace postern
