/// postern-password - makes and checks stored passwords for a passwd-file, as doveadm pw does.
///
/// Reads nothing but what is typed or piped in, needs no rights and no configuration.
#include <fmt/core.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "lib/base/strings.h"
#include "lib/sasl/password_scheme.h"

namespace {

using namespace postern;

constexpr int kUsage = 64;     // EX_USAGE
constexpr int kData = 65;      // EX_DATAERR

struct Options {
    bool list = false;
    bool verify = false;
    std::string scheme = "SHA512-CRYPT";
    std::string password;
    bool have_password = false;
    std::string test;
    unsigned long rounds = 0;
};

int usage() {
    std::fputs("usage: postern-password [-V] [-p password] [-r rounds] [-s scheme]\n"
               "       postern-password -t hash [-p password]\n"
               "       postern-password -l\n",
               stderr);
    return kUsage;
}

/// One line, without echo when it is typed.  False at the end of input.
bool read_password(const char* prompt, std::string& password) {
    termios saved{};
    const bool typed = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &saved) == 0;
    if (typed) {
        std::fputs(prompt, stderr);
        termios quiet = saved;
        quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    password.clear();
    int c = 0;
    while ((c = std::getchar()) != EOF && c != '\n' && password.size() <= kMaxPassword) {
        password += static_cast<char>(c);
    }
    if (typed) {
        ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
        std::fputc('\n', stderr);
    }
    return c != EOF || !password.empty();
}

bool ask_password(Options& options) {
    if (options.have_password) {
        return true;
    }
    if (!read_password(options.test.empty() ? "Enter new password: " : "Enter password to verify: ", options.password)) {
        return false;
    }
    std::string again;
    const bool twice = options.test.empty() && ::isatty(STDIN_FILENO) == 1;
    if (twice && (!read_password("Retype new password: ", again) || again != options.password)) {
        std::fputs("postern-password: the passwords do not match\n", stderr);
        return false;
    }
    return true;
}

int test_password(const Options& options) {
    const Result<bool> right = verify_password(options.test, "CRYPT", options.password);
    if (!right) {
        fmt::print(stderr, "postern-password: {}\n", right.error().what);
        return kData;
    }
    if (!*right) {
        std::fputs("postern-password: reverse password verification check failed: Password mismatch\n", stderr);
        return 1;
    }
    fmt::print("{} (verified)\n", options.test);
    return 0;
}

int make(const Options& options) {
    const Result<std::string> hash = make_password(options.scheme, options.password, options.rounds);
    if (!hash) {
        fmt::print(stderr, "postern-password: {}\n", hash.error().what);
        return kData;
    }
    if (options.verify) {
        const Result<bool> right = verify_password(*hash, "CRYPT", options.password);
        if (!right || !*right) {
            std::fputs("postern-password: the new hash does not verify\n", stderr);
            return kData;
        }
    }
    fmt::print("{}{}\n", *hash, options.verify ? " (verified)" : "");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    int option = 0;
    while ((option = ::getopt(argc, argv, "lp:r:s:t:u:V")) != -1) {
        switch (option) {
        case 'l': options.list = true; break;
        case 'p': options.password = optarg; options.have_password = true; break;
        case 's': options.scheme = optarg; break;
        case 't': options.test = optarg; break;
        case 'u': break;   // only schemes with the name in the hash would need it; there is none here
        case 'V': options.verify = true; break;
        case 'r':
            if (const auto rounds = parse_number(optarg)) {
                options.rounds = *rounds;
                break;
            }
            return usage();
        default:
            return usage();
        }
    }
    if (optind != argc) {
        return usage();
    }
    if (options.list) {
        for (const std::string_view name : password_schemes()) {
            fmt::print("{}{}", name == password_schemes().front() ? "" : " ", name);
        }
        fmt::print("\n");
        return 0;
    }
    if (!ask_password(options)) {
        return kData;
    }
    return options.test.empty() ? make(options) : test_password(options);
}
