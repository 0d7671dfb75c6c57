extension Effect {
    /// A NIC, taken from its driver and marked as ours. Giving it back undoes the three effects below as well.
    struct NICTaking: EffectValue {
        /// As it was before.
        var state: NICState
        var driver: String?
        /// The mark of a dead machine, which ours may replace.
        var leftBehind: NICMark?

        private enum CodingKeys: String, CodingKey {
            case state = "_0"
            case driver = "from"
            case leftBehind = "over"
        }

        var shellText: String {
            let unbind = driver.map { "echo \(state.address) > /sys/bus/pci/drivers/\($0)/unbind && " } ?? ""
            return unbind + "echo \(state.mark.text.shellQuoted) > \(state.folder)/driver_override &&\n    "
                + "setpci -s \(state.address) COMMAND=0:4"
        }

        func undoText(_ folders: MachinePaths) -> String? {
            let (address, folder, mark) = (state.address, state.folder, state.mark)
            let wasUp = mark.interfaces.filter(\.isUp).map { "ip link set \($0.name.shellQuoted) up" }
            let lines = [
                "[ ! -e \(folder)/driver ] || echo \(address) > \(folder)/driver/unbind",
                "setpci -s \(address) COMMAND=0:4",
                mark.iommuType.map { "echo \($0) > \(folder)/iommu_group/type" },
                "echo \((state.override ?? "").shellQuoted) > \(folder)/driver_override",
                mark.driver.map { "echo \(address) > /sys/bus/pci/drivers/\($0)/bind" },
            ]
            return (lines.compactMap(\.self) + wasUp).joined(separator: "\n")
        }
    }

    static func take(_ state: NICState, from driver: String? = nil, over leftBehind: NICMark? = nil) -> Effect {
        .nic(NICTaking(state: state, driver: driver, leftBehind: leftBehind))
    }

    /// The NIC that it takes.
    var takenNIC: NICState? { if case .nic(let taking) = self { taking.state } else { nil } }

    /// Takes a NIC from others, or makes that possible.
    var isTaking: Bool { if case .remount = self { true } else { takenNIC != nil } }

    /// Makes sure that the NICs are ours and nobody else's.
    struct NICConfirmation: PassingEffect {
        var states: [NICState]

        var shellText: String {
            let looks = states.map { "grep -qx \($0.mark.text.shellQuoted) \($0.folder)/driver_override" }
            return "sleep 0.3 && \(looks.joined(separator: " && "))"
        }
    }

    static func confirm(_ states: [NICState]) -> Effect { .confirm(NICConfirmation(states: states)) }

    /// Lets the devices of an IOMMU group see the memory's own addresses.
    struct IOMMUType: PassingEffect {
        var group: Int
        var type: String
        var address: PCIAddress

        var shellText: String { "echo \(type) > /sys/kernel/iommu_groups/\(group)/type" }
    }

    static func iommuType(group: Int, type: String, of address: PCIAddress) -> Effect {
        .iommuType(IOMMUType(group: group, type: type, address: address))
    }

    /// Gives a NIC of ours to this driver, whatever its id.
    struct NICBinding: PassingEffect {
        var address: PCIAddress
        var driver: String
        var mark: NICMark

        var shellText: String {
            let override = "/sys/bus/pci/devices/\(address)/driver_override"
            return "echo \(driver) > \(override) && echo \(address) > /sys/bus/pci/drivers/\(driver)/bind &&\n    "
                + "echo \(mark.text.shellQuoted) > \(override)"
        }
    }

    static func bind(address: PCIAddress, driver: String, mark: NICMark) -> Effect {
        .bind(NICBinding(address: address, driver: driver, mark: mark))
    }
}
