// What checking a stored password takes, as its own text says: a hash from elsewhere may ask for minutes or gigabytes.
#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/sasl/stored_password.h"

namespace postern {

namespace {

/// Bounds of one property.  Beyond `heavy` only few are checked at a time, beyond `most` none is.
struct Bounds {
    const char* what;
    std::uint64_t heavy;
    std::uint64_t most;
};
constexpr Bounds kMemory{"KB of memory", 128 * 1024, 2 * 1024 * 1024};            // of Argon2, yescrypt and scrypt
constexpr Bounds kMemoryPasses{"KB of memory to go through", 512 * 1024, 16 * 1024 * 1024};
constexpr Bounds kShaRounds{"rounds", 500'000, 20'000'000};                       // a second has about 2 million
constexpr Bounds kPbkdf2Rounds{"rounds", 1'000'000, 10'000'000};
constexpr Bounds kBcryptCost{"as the power of two of its rounds", 13, 18};        // 14 takes a second

Result<PasswordCost> within(const Bounds& bounds, std::uint64_t value) {
    if (value > bounds.most) {
        return {Errc::unsupported, fmt::format("the password's hash wants {} {}; more than {} are refused", value, bounds.what, bounds.most)};
    }
    return value > bounds.heavy ? PasswordCost::heavy : PasswordCost::expensive;
}

/// The number after `name`, up to what is no digit; `otherwise` when it is not there.  Very long ones count as very large.
std::uint64_t number_after(std::string_view text, std::string_view name, std::uint64_t otherwise) {
    const std::size_t at = text.find(name);
    if (at == std::string_view::npos) {
        return otherwise;
    }
    const std::string_view rest = text.substr(at + name.size());
    const std::string_view digits = rest.substr(0, std::min(rest.find_first_not_of("0123456789"), rest.size()));
    return digits.empty() ? otherwise : parse_number(digits).value_or(UINT64_MAX);
}

/// "$argon2id$v=19$m=65536,t=2,p=1$salt$hash".
Result<PasswordCost> cost_of_argon2(std::string_view text) {
    const std::uint64_t memory = number_after(text, "$m=", 0), passes = number_after(text, ",t=", 1);
    Result<PasswordCost> cost = within(kMemory, memory);
    if (!cost || *cost == PasswordCost::heavy) {
        return cost;
    }
    return within(kMemoryPasses, passes > kMemoryPasses.most ? passes : memory * passes);
}

/// Where crypt(3) writes numbers with one letter for six bits.
std::uint64_t six_bits(char letter) {
    constexpr std::string_view kLetters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const std::size_t at = kLetters.find(letter);
    return at == std::string_view::npos ? 0 : at;
}

/// By the prefix that names the method.  Of yescrypt ("$y$j9T$") and scrypt ("$7$C6..../....$") the letter that is the power
/// of two of the blocks counts; a block has 4 KB with the parameters that crypt_gensalt(3) gives.
Result<PasswordCost> cost_of_crypt(std::string_view text) {
    if (text.substr(0, 2) == "$2" && text.size() > 4) {
        return within(kBcryptCost, number_after(text.substr(3), "$", 0));
    }
    if (text.substr(0, 3) == "$5$" || text.substr(0, 3) == "$6$") {
        return within(kShaRounds, number_after(text, "$rounds=", 5000));
    }
    const bool yescrypt = text.substr(0, 3) == "$y$", gost = text.substr(0, 4) == "$gy$", scrypt = text.substr(0, 3) == "$7$";
    const std::size_t letter = yescrypt ? 4 : gost ? 5 : 3;
    if ((yescrypt || gost || scrypt) && text.size() > letter) {
        const std::uint64_t power = six_bits(text[letter]) + (scrypt ? 0 : 1);
        return within(kMemory, std::uint64_t{4} << std::min<std::uint64_t>(power, 40));
    }
    return PasswordCost::expensive;
}

}  // namespace

Result<PasswordCost> cost_of_hash(const StoredPassword& stored) {
    const std::string text = text_of(stored).value_or(std::string());
    if (stored.scheme.substr(0, 6) == "ARGON2" || text.substr(0, 7) == "$argon2") {
        return cost_of_argon2(text);
    }
    if (stored.scheme == "PBKDF2") {
        const auto parts = split_exact(text, '$');
        return within(kPbkdf2Rounds, parts.size() == 5 ? parse_number(parts[3]).value_or(0) : 0);
    }
    return cost_of_crypt(text);
}

}  // namespace postern
