/// Line ends of messages on their way into the store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::store {

/// Turns CRLF into LF, however the bytes are cut; a CR elsewhere stays, and so does CR CR LF.
class CrlfToLf {
public:
    /// Appends to `out`.
    void feed(std::string_view bytes, std::string& out);
    /// A CR at the very end was one of its own.
    void finish(std::string& out);
    /// Line feeds written so far that no CR precedes: each will be sent as CRLF.
    std::uint64_t bare_line_feeds() const { return bare_; }

private:
    bool held_cr_ = false;          ///< a CR that waits to see what follows
    bool last_was_cr_ = false;      ///< the last byte written
    std::uint64_t bare_ = 0;
};

}  // namespace postern::store
