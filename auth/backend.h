/// The databases auth_passdbs and auth_userdbs name, in Dovecot's words:
///
///     passwd-file:[scheme=SCHEME] [username_format=FORMAT] PATH      (PATH may contain %variables)
///     pam:[SERVICE]                                                  (passdb only)
///     passwd:                                                        (userdb only: getpwnam(3))
///     static:[password=..] [nopassword=y] [uid=..] [gid=..] [home=..] [mail=..] [nologin=y] [allow_nets=..]
///
/// Each password database may have `master=yes`: who is in it may log in as anybody else, and not as himself; with `pass=yes` too,
/// only as somebody whom the other password databases know and let in.
///
/// Elements are separated by commas; one with blanks or commas in it stands in braces:
///     auth_passdbs = { passwd-file:scheme=PLAIN username_format=%n /etc/postern/users }, pam:
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "auth/passwd_file.h"
#include "auth/variables.h"
#include "lib/base/result.h"

namespace postern {

class Config;

/// One element of the lists.
struct Backend {
    enum class Kind : unsigned char { passwd_file, pam, passwd, static_users };
    Kind kind = Kind::passwd_file;
    std::string scheme = "CRYPT";             ///< passwd-file: for passwords without {SCHEME}
    std::string username_format = "%u";
    std::string path;                         ///< passwd-file
    std::string service;                      ///< pam
    std::map<std::string, std::string> fields;   ///< static
    bool master = false;                      ///< passdb: of master users
    bool pass = false;                        ///< ... who need the user's own entry

    std::string_view name() const;            ///< as in the log: "passwd-file", "pam", "passwd", "static"
};

/// `for_userdb` chooses which kinds make sense.  Errors: config, naming the element.
Result<std::vector<Backend>> parse_backends(std::string_view list, bool for_userdb, const Config& config);

/// The passwd-files in use, opened when first needed; safe to use from several threads.
class PasswdFiles {
public:
    static constexpr std::size_t kMaxOpen = 1000;

    /// The user's entry in `backend`, which is a passwd-file.  A file that was never there is as good as empty.
    /// Errors: temporary when a file cannot be read; config, denied from the templates.
    Result<std::optional<PasswdEntry>> find(const Backend& backend, const Variables& variables);

    /// Changes whenever one of the files may have changed; looks at them at most once a second.
    std::uint64_t generation();

private:
    std::shared_ptr<PasswdFile> open(const std::string& path);
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<PasswdFile>> files_;   ///< shared with lookups in other threads
    std::uint64_t forgotten_ = 0;      ///< keeps generation() from going back
};

/// An entry of a static database for any user.  Errors: config from the templates.
Result<PasswdEntry> static_entry(const Backend& backend, const Variables& variables);

/// getpwnam(3); blocks.  nothing for an unknown user.  Errors: temporary.
Result<std::optional<PasswdEntry>> system_entry(const std::string& user);

/// uid or gid as a number or a name (mail_uid = vmail).  Errors: config.
Result<std::uint32_t> resolve_uid(const std::string& text);
Result<std::uint32_t> resolve_gid(const std::string& text);

}  // namespace postern
