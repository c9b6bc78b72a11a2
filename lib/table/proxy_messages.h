/// What a program and proxymap(8) say to each other on private/proxymap: one question, one answer, in order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace postern::table_proxy {

struct Question {
    std::string table;        ///< "type:name", without "proxy:"
    std::string key;
    bool fold_case = true;
    bool allow_substitution = true;
};
template <class A>
void fields(A& a, Question& m) { a(m.table, m.key, m.fold_case, m.allow_substitution); }

inline constexpr std::uint8_t kFound = 1;
inline constexpr std::uint8_t kAbsent = 2;
inline constexpr std::uint8_t kFailed = 3;   ///< the table cannot answer now
inline constexpr std::uint8_t kDenied = 4;   ///< not listed in proxy_read_maps

struct Answer {
    std::uint8_t status = kFailed;
    std::string text;         ///< the value, or why there is none
};
template <class A>
void fields(A& a, Answer& m) { a(m.status, m.text); }

using ToProxymap = std::variant<Question>;
using FromProxymap = std::variant<Answer>;

/// Larger frames end the conversation.
inline constexpr std::size_t kMaxFrame = 1024 * 1024;

}  // namespace postern::table_proxy
