-- snabb snsh check.lua FILTER…: exits 0 when all are good pcap-filter texts, else tells about the first that is not.

package.path = (debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "?.lua"
local settings = require("settings")

for _, text in ipairs(main.parameters) do
    local reason = settings.filter_error(text)
    if reason then
        io.stderr:write(("filter \"%s\": %s\n"):format(text, reason))
        os.exit(1)
    end
end
os.exit(0)
