#include "lib/service/arguments.h"

#include "lib/base/strings.h"

namespace postern {

namespace {

constexpr const char* kUsage =
    "usage: PROGRAM -n SERVICE -t inet|unix|unix-dgram|fifo|pass [-u|-P] [-c] [-v] [-S] [-o name=value]... [ARGUMENT...]";

Result<void> add_override(ServiceArguments& out, const std::string& text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || trim(std::string_view(text).substr(0, equals)).empty()) {
        return Error(Errc::config, "-o " + text + ": want name=value");
    }
    out.overrides.emplace_back(trim(std::string_view(text).substr(0, equals)),
                               trim(std::string_view(text).substr(equals + 1)));
    return {};
}

/// True when `option` is one of the flags without a value.
bool take_flag(ServiceArguments& out, std::string_view option) {
    if (option == "-u") {
        out.privileged = false;   // the default; accepted because Postfix's master passes it
    } else if (option == "-P") {
        out.privileged = true;
    } else if (option == "-c") {
        out.may_chroot = true;
    } else if (option == "-S") {
        out.standard_input = true;
    } else if (option.size() >= 2 && option.substr(0, 2) == "-v" &&
               option.find_first_not_of('v', 1) == std::string_view::npos) {
        out.verbosity += static_cast<int>(option.size() - 1);
    } else {
        return false;
    }
    return true;
}

}  // namespace

Result<ServiceArguments> parse_service_arguments(int argc, char** argv) {
    ServiceArguments out;
    int i = 1;
    for (; i < argc; ++i) {
        const std::string option = argv[i];
        if (take_flag(out, option)) {
            continue;
        }
        if (option == "--") {
            ++i;
            break;
        }
        if (option != "-n" && option != "-t" && option != "-o") {
            break;
        }
        if (++i == argc) {
            return Error(Errc::config, option + " needs a value; " + kUsage);
        }
        if (option == "-n") {
            out.service_name = argv[i];
        } else if (option == "-t") {
            out.service_type = argv[i];
        } else if (Result<void> added = add_override(out, argv[i]); !added) {
            return added.error();
        }
    }
    out.rest.assign(argv + i, argv + argc);
    if (out.service_name.empty()) {
        const std::string_view program = argc > 0 ? argv[0] : "service";
        out.service_name = program.substr(program.rfind('/') + 1);
    }
    return out;
}

}  // namespace postern
