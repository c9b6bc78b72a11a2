/// smtp's way to tlsrpt(8): outcomes leave without anybody waiting for them.
#pragma once

#include <memory>
#include <string>

#include "lib/tlsrpt/messages.h"

namespace postern {

class TlsrptClient {
public:
    explicit TlsrptClient(std::string path = kTlsrptSocket);
    ~TlsrptClient();
    TlsrptClient(const TlsrptClient&) = delete;
    TlsrptClient& operator=(const TlsrptClient&) = delete;

    /// Returns at once.  What the service does not take is lost, and a warning says so, once until it takes some again.
    void tell(TlsrptOutcome outcome);

private:
    struct State;
    std::shared_ptr<State> state_;   ///< shared with the coroutine that sends, which may outlive us
};

}  // namespace postern
