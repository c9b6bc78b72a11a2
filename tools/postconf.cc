/// postconf - shows and changes main.cf and master.cf.
///
///     postconf [-dfhHnoqvx] [-c directory] [-C class] [name ...]          show parameters
///     postconf -e name=value ...    -# name ...    -X name ...            change main.cf
///     postconf -M | -F | -P [-fhoqvx] [service[/type[/name]] ...]          show services, their fields, their -o
///     postconf -Me service/type=line ...  -Fe .../field=value  -Pe .../name=value  -M# -MX -PX ...
///     postconf -b | -t [template_file]                                     texts of delivery notices (bounce(5))
///     postconf -a | -A | -l | -m | -T mode                                 what this build supports
///
/// Runs with the caller's rights; the files' own permissions decide.

#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/main_cf.h"
#include "lib/notice/templates.h"
#include "lib/table/table.h"
#include "tools/postconf.h"

namespace {

using namespace postern;
using namespace postern::postconf;

constexpr std::string_view kUsage =
    "usage: postconf [-abdefhHlmnoqtvxAFMPX#] [-c directory] [-C class] [-o name=value] [-T mode] [name ...]\n";

int usage() {
    fmt::print(stderr, "{}", kUsage);
    return 1;
}

/// What -a, -A, -l and -m list.
void list(std::string_view words) {
    for (const std::string& word : split(words, " ")) {
        fmt::print("{}\n", word);
    }
}

int show_tls(std::string_view mode) {
    if (mode == "compile-version") {
        fmt::print("{}\n", OPENSSL_VERSION_TEXT);
    } else if (mode == "run-version") {
        fmt::print("{}\n", OpenSSL_version(OPENSSL_VERSION));
    } else {
        fmt::print(stderr, "postconf: fatal: -T {}: unknown; accepted: compile-version, run-version\n", mode);
        return 1;
    }
    return 0;
}

/// -b: the texts of notices as senders see them.  -t: the templates.
int show_templates(const Request& request, bool expanded) {
    const Result<Config> config = Config::load(request.directory, request.overrides);
    if (!config) {
        fmt::print(stderr, "postconf: fatal: {}\n", config.error().what);
        return 1;
    }
    const Result<NoticeTemplates> templates = request.words.empty() ? NoticeTemplates::open(*config) : NoticeTemplates::read(request.words.front());
    const Result<std::string> text = !templates ? Result<std::string>(templates.error())
                                     : expanded ? preview_templates(*config, *templates)
                                                : format_templates(*templates);
    if (!text) {
        fmt::print(stderr, "postconf: fatal: {}\n", text.error().what);
        return 1;
    }
    const std::string& file = request.words.empty() ? config->bounce_template_file() : request.words.front();
    for (const std::string& warning : expanded ? doubtful_times(*config, *templates, file) : std::vector<std::string>()) {
        fmt::print(stderr, "postconf: warning: {}\n", warning);
    }
    fmt::print("{}", *text);
    return 0;
}

bool add_override(Request& request, const char* text) {
    Result<Setting> setting = parse_assignment(text);
    if (!setting) {
        fmt::print(stderr, "postconf: fatal: -o: {}\n", setting.error().what);
        return false;
    }
    request.overrides.emplace_back(setting->name, setting->value);
    return true;
}

void set_classes(Request& request, const char* text) {
    request.classes.clear();
    for (const std::string& word : split(text, ", ")) {
        if (word == "all") {
            request.classes = {"builtin", "service", "user"};
        }
        request.classes.insert(word);
    }
}

/// Options that are a flag of the request.  False for others.
bool take_flag(Request& request, int option) {
    switch (option) {
    case 'd': request.defaults = true; return true;
    case 'n': request.only_set = true; return true;
    case 'x': request.expand = true; return true;
    case 'f': request.fold = true; return true;
    case 'h': request.hide_names = true; return true;
    case 'H': request.hide_values = true; return true;
    case 'q': request.quiet = true; return true;
    case 'e': request.action = Request::Action::set; return true;
    case '#': request.action = Request::Action::comment_out; return true;
    case 'X': request.action = Request::Action::remove; return true;
    case 'M': request.target = Request::Target::master_entries; return true;
    case 'F': request.target = Request::Target::master_fields; return true;
    case 'P': request.target = Request::Target::master_parameters; return true;
    case 'p': request.target = Request::Target::main_cf; return true;
    case 'v': return true;
    default: return false;
    }
}

}  // namespace

int main(int argc, char** argv) {
    Request request;
    request.directory = Config::default_directory();
    request.directory_given = ::getenv("MAIL_CONFIG") != nullptr;
    std::string_view tls_mode;
    char listing = '\0';
    for (int option; (option = ::getopt(argc, argv, "aAbc:C:deFfhHlmMnNo:pPqtT:vxX#")) != -1;) {
        if (take_flag(request, option)) {
            continue;
        }
        switch (option) {
        case 'a': case 'A': case 'b': case 'l': case 'm': case 't': listing = static_cast<char>(option); break;
        case 'c': request.directory = optarg; request.directory_given = true; break;
        case 'C': set_classes(request, optarg); break;
        case 'T': tls_mode = optarg; break;
        case 'o':
            if (!add_override(request, optarg)) {
                return 1;
            }
            break;
        default: return usage();
        }
    }
    request.words.assign(argv + optind, argv + argc);
    switch (listing) {
    case 'a': list("postern"); return 0;
    case 'A': return 0;
    case 'b': case 't': return show_templates(request, listing == 'b');
    case 'l': list("flock fcntl dotlock"); return 0;
    case 'm':
        for (const std::string& type : table_types()) {
            fmt::print("{}\n", type);
        }
        return 0;
    default: break;
    }
    if (!tls_mode.empty()) {
        return show_tls(tls_mode);
    }
    if (request.defaults && request.only_set) {
        fmt::print(stderr, "postconf: fatal: specify one of -d and -n\n");
        return 1;
    }
    if (request.target != Request::Target::main_cf && (request.defaults || request.only_set)) {
        fmt::print(stderr, "postconf: fatal: with -F, -M and -P, do not specify -d or -n\n");
        return 1;
    }
    // "postconf name=value" without -e sets, as in Postfix.
    if (request.action == Request::Action::show && !request.words.empty() &&
        request.words.front().find('=') != std::string::npos) {
        request.action = Request::Action::set;
    }
    if (request.action != Request::Action::show) {
        return edit(request);
    }
    return request.target == Request::Target::main_cf ? show_main_cf(request) : show_master_cf(request);
}
