-- Overlays over Snabb's own modules: named cures, each of which overrides one thing when it is applied. They compose in
-- any selection, so that the tests can leave one out and see the failure that it prevents.

local M = {}

function M.new ()
    local overlay, is_applied = { cures = {} }, false

    function overlay.cure (name, apply)
        table.insert(overlay.cures, { name = name, apply = apply })
    end

    -- Once, however often it is asked for.
    function overlay.apply ()
        if is_applied then return end
        is_applied = true
        for _, each in ipairs(overlay.cures) do each.apply() end
    end

    return overlay
end

-- Wraps a method: `around(original, self, ...)` runs in its place.
function M.wrap (class, name, around)
    local original = class[name]
    class[name] = function (...) return around(original, ...) end
end

return M
