/// The stacks that coroutines run on where they may wait_here(): lib/async's own.
#pragma once

namespace postern::detail {

/// A stack was set aside and what it waited for has come.
bool stack_is_due();
/// Goes on with that stack until its work has returned or is set aside again.
void resume_due_stack();

}  // namespace postern::detail
