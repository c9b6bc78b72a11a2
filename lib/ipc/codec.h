/// How a message between two programs becomes bytes, and back.
///
/// A message is a plain struct whose members are named once:
///
///     struct Redeem { std::string token; std::uint32_t session = 0; UniqueFd client; };
///     template <class A> void fields(A& a, Redeem& m) { a(m.token, m.session, m.client); }
///
/// Members may be integers, bool, enums (with an unsigned underlying type; range checks are the receiver's),
/// std::string, UniqueFd, other such structs, std::vector, std::optional and std::pair of these.  Integers
/// travel as little-endian fixed width.  The decoder never reads or allocates past the frame it was given: a
/// count is checked against what is left before anything is made.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lib/base/unique_fd.h"

namespace postern {

/// Appends members to a byte string; descriptors are taken out of the message.
class Encoder {
public:
    Encoder(std::string& bytes, std::vector<UniqueFd>& fds) : bytes_(bytes), fds_(fds) {}

    template <class... T>
    void operator()(T&... members) {
        (put(members), ...);
    }

private:
    template <class T>
    void put(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            bytes_ += value ? '\1' : '\0';
        } else if constexpr (std::is_enum_v<T>) {
            auto number = static_cast<std::underlying_type_t<T>>(value);
            put(number);
        } else if constexpr (std::is_integral_v<T>) {
            auto rest = static_cast<std::make_unsigned_t<T>>(value);
            for (std::size_t i = 0; i < sizeof(T); ++i) {
                bytes_ += static_cast<char>(rest & 0xff);
                rest = static_cast<std::make_unsigned_t<T>>(static_cast<std::uint64_t>(rest) >> 8);
            }
        } else {
            fields(*this, value);
        }
    }
    void put(std::string& value) {
        put_size(value.size());
        bytes_ += value;
    }
    void put(UniqueFd& value) {
        bytes_ += value ? '\1' : '\0';
        if (value) {
            fds_.push_back(std::move(value));
        }
    }
    template <class T>
    void put(std::vector<T>& values) {
        put_size(values.size());
        for (T& value : values) {
            put(value);
        }
    }
    template <class T>
    void put(std::optional<T>& value) {
        bytes_ += value ? '\1' : '\0';
        if (value) {
            put(*value);
        }
    }
    template <class A, class B>
    void put(std::pair<A, B>& value) {
        put(value.first);
        put(value.second);
    }
    void put_size(std::size_t size) {
        auto number = static_cast<std::uint32_t>(size);
        put(number);
    }

    std::string& bytes_;
    std::vector<UniqueFd>& fds_;
};

/// Reads members from a frame; ok() turns false at the first thing that does not fit, and stays so.
class Decoder {
public:
    Decoder(std::string_view bytes, std::deque<UniqueFd>& fds, std::size_t fd_count)
        : bytes_(bytes), fds_(fds), fds_left_(fd_count) {}

    template <class... T>
    void operator()(T&... members) {
        (get(members), ...);
    }
    bool ok() const { return ok_; }
    /// All bytes and descriptors of the frame were used.
    bool finished() const { return ok_ && bytes_.empty() && fds_left_ == 0; }

private:
    template <class T>
    void get(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            const std::string_view byte = take(1);
            ok_ = ok_ && (byte[0] == '\0' || byte[0] == '\1');
            value = ok_ && byte[0] == '\1';
        } else if constexpr (std::is_enum_v<T>) {
            std::underlying_type_t<T> number{};
            get(number);
            value = static_cast<T>(number);
        } else if constexpr (std::is_integral_v<T>) {
            const std::string_view raw = take(sizeof(T));
            std::uint64_t number = 0;
            for (std::size_t i = raw.size(); i-- > 0;) {
                number = number << 8 | static_cast<unsigned char>(raw[i]);
            }
            value = static_cast<T>(number);
        } else {
            fields(*this, value);
        }
    }
    void get(std::string& value) {
        const std::size_t size = get_size();
        value.assign(take(size));
    }
    void get(UniqueFd& value) {
        bool there = false;
        get(there);
        if (!there) {
            return;
        }
        if (fds_left_ == 0 || fds_.empty()) {
            ok_ = false;
            return;
        }
        --fds_left_;
        value = std::move(fds_.front());
        fds_.pop_front();
    }
    template <class T>
    void get(std::vector<T>& values) {
        const std::size_t count = get_size();
        if (count > bytes_.size()) {   // every element takes a byte at least
            ok_ = false;
            return;
        }
        values.clear();
        for (std::size_t i = 0; i < count && ok_; ++i) {
            get(values.emplace_back());
        }
    }
    template <class T>
    void get(std::optional<T>& value) {
        bool there = false;
        get(there);
        if (there) {
            get(value.emplace());
        }
    }
    template <class A, class B>
    void get(std::pair<A, B>& value) {
        get(value.first);
        get(value.second);
    }
    std::size_t get_size() {
        std::uint32_t size = 0;
        get(size);
        if (size > bytes_.size()) {
            ok_ = false;
        }
        return ok_ ? size : 0;
    }
    /// The next `size` bytes; zeroes when the frame is too short.
    std::string_view take(std::size_t size) {
        static constexpr char kZero[8] = {};
        if (!ok_ || size > bytes_.size()) {
            ok_ = false;
            return {kZero, size < sizeof kZero ? size : sizeof kZero};
        }
        const std::string_view out = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return out;
    }

    std::string_view bytes_;
    std::deque<UniqueFd>& fds_;
    std::size_t fds_left_;
    bool ok_ = true;
};

}  // namespace postern
