/// What the end of a command means for the message.
#include <fmt/format.h>
#include <sys/wait.h>

#include "lib/base/strings.h"
#include "local/command.h"

namespace postern::local {
namespace {

struct ExitMeaning {
    int code;
    const char* dsn;
    const char* text;
};

/// sysexits(3), with the codes and words of Postfix's sys_exits.
constexpr ExitMeaning kExitMeanings[] = {
    {64, "5.3.0", "command line usage error"},    {65, "5.6.0", "data format error"},
    {66, "5.3.0", "cannot open input"},           {67, "5.1.1", "user unknown"},
    {68, "5.1.2", "host name unknown"},           {69, "5.3.0", "service unavailable"},
    {70, "5.3.0", "internal software error"},     {71, "4.3.0", "system resource problem"},
    {72, "5.3.0", "critical OS file missing"},    {73, "5.2.0", "can't create user output file"},
    {74, "5.3.0", "input/output error"},          {75, "4.3.0", "temporary failure"},
    {76, "5.5.0", "remote error in protocol"},    {77, "5.7.0", "permission denied"},
    {78, "5.3.5", "local configuration error"},
};

/// "X.Y.Z text": the length of the code, 0 when there is none.
std::size_t dsn_length(std::string_view text) {
    if (text.size() < 5 || (text[0] != '2' && text[0] != '4' && text[0] != '5') || text[1] != '.') {
        return 0;
    }
    std::size_t at = 2;
    for (int part = 0; part < 2; ++part) {
        const std::size_t begin = at;
        while (at < text.size() && at - begin < 4 && text[at] >= '0' && text[at] <= '9') {
            ++at;
        }
        if (at == begin || at - begin > 3 || (part == 0 && (at >= text.size() || text[at] != '.'))) {
            return 0;
        }
        at += part == 0 ? 1 : 0;
    }
    return at == text.size() || text[at] == ' ' || text[at] == '\t' ? at : 0;
}

/// One line of it, for log and bounce.
std::string one_line(std::string_view output) {
    std::string line;
    for (const char c : trim(output)) {
        line += c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
    }
    return printable(line, 1000);
}

constexpr std::string_view kSoftwareError = "internal software error";   // of EX_SOFTWARE, in Postfix's words

/// `said` is the command's own word on what is wrong, else `meaning` is: for the notice (RFC 3464 section 2.3.6).
Outcome failed_command(std::string dsn, std::string text, const std::string& said, std::string_view meaning) {
    Outcome outcome = failed(std::move(dsn), std::move(text));
    outcome.diagnostic = fmt::format("x-unix; {}", said.empty() ? meaning : std::string_view(said));
    return outcome;
}

}  // namespace

std::string parenthesized(std::string_view output) {
    const std::string said = one_line(output);
    return said.empty() ? std::string() : " (" + said.substr(0, 200) + ")";
}

Outcome command_outcome(int wait_status, bool timed_out, std::string_view command_text, std::string_view output,
                        const std::string& success_text) {
    const std::string said = one_line(output);
    const std::string tail = said.empty() ? std::string() : ". Command output: " + said;
    if (timed_out) {
        return failed_command("5.3.0", fmt::format("Command time limit exceeded: \"{}\"{}", command_text, tail), said, kSoftwareError);
    }
    if (WIFSIGNALED(wait_status)) {
        return failed_command("4.3.0", fmt::format("Command died with signal {}: \"{}\"{}", WTERMSIG(wait_status), command_text, tail), said,
                              kSoftwareError);
    }
    const int code = WEXITSTATUS(wait_status);
    if (code == 0) {
        return sent(success_text);
    }
    const std::size_t dsn = dsn_length(said);
    if (dsn > 0 && said.front() != '2') {
        const std::string text(trim(std::string_view(said).substr(dsn)));
        return failed_command(said.substr(0, dsn), text, text, {});
    }
    for (const ExitMeaning& meaning : kExitMeanings) {
        if (meaning.code == code) {
            return failed_command(meaning.dsn, meaning.text + tail, said, meaning.text);
        }
    }
    return failed_command("5.3.0", fmt::format("Command died with status {}: \"{}\"{}", code, command_text, tail), said,
                          fmt::format("unknown mail system error {}", code));
}

}  // namespace postern::local
