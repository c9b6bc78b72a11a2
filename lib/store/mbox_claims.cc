#include "lib/store/mbox_claims.h"

#include <algorithm>
#include <set>

#include "lib/base/strings.h"
#include "lib/store/control_file.h"

namespace postern::store {
namespace {

struct Claims {
    std::string path;
    std::string text;                    ///< as in the file: one number in each line
    std::set<std::uint64_t> numbers;

    static Result<Claims> read(const std::string& control) {
        Claims claims;
        claims.path = control + "/.postern.uidvalidity";
        Result<std::optional<std::string>> text = read_control_file(claims.path);
        if (!text) {
            return text.error();
        }
        claims.text = text->value_or(std::string());
        for (const std::string& word : split(claims.text, "\n")) {
            claims.numbers.insert(parse_number(word).value_or(0));
        }
        return claims;
    }

    Result<void> add(std::uint32_t number) {
        if (!text.empty() && text.back() != '\n') {
            text += '\n';
        }
        text += std::to_string(number) + "\n";
        return replace_control_file(path, text);
    }
};

}  // namespace

Result<std::uint32_t> claim_uidvalidity(const std::string& control, std::uint32_t found, std::uint32_t fresh) {
    Result<Claims> claims = Claims::read(control);
    if (!claims) {
        return claims.error();
    }
    std::uint32_t chosen = found;
    if (found == 0 || claims->numbers.count(found) != 0) {
        chosen = std::max(fresh, found + 1);
        while (chosen == 0 || claims->numbers.count(chosen) != 0) {
            ++chosen;
        }
    }
    const Result<void> added = claims->add(chosen);
    return added ? Result<std::uint32_t>(chosen) : Result<std::uint32_t>(added.error());
}

Result<void> note_uidvalidity(const std::string& control, std::uint32_t uidvalidity) {
    Result<Claims> claims = Claims::read(control);
    if (!claims) {
        return claims.error();
    }
    return claims->numbers.count(uidvalidity) != 0 ? Result<void>() : claims->add(uidvalidity);
}

}  // namespace postern::store
