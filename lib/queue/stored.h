/// Numbers and strings as queue files store them: little-endian, bounded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::queue {

template <class Number>
void put_number(std::string& out, Number value) {
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
        out.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i)));
    }
}

/// Takes numbers and strings from the front of some bytes.  After bytes ran out, ok() is false and all that is
/// taken is zero or empty.
class StoredReader {
public:
    explicit StoredReader(std::string_view bytes) : left_(bytes) {}

    template <class Number>
    Number number() {
        std::uint64_t value = 0;
        const std::string_view bytes = take(sizeof(Number));
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
        }
        return static_cast<Number>(value);
    }
    std::string_view take(std::size_t size) {
        if (size > left_.size()) {
            ok_ = false;
            left_ = {};
            return {};
        }
        const std::string_view bytes = left_.substr(0, size);
        left_.remove_prefix(size);
        return bytes;
    }
    bool ok() const { return ok_; }
    bool empty() const { return left_.empty(); }

private:
    std::string_view left_;
    bool ok_ = true;
};

}  // namespace postern::queue
