extension Effect {
    /// A hugepage of the default size that the host did not have before.
    struct HugepageAdded: UnplannedEffect {}

    static var hugepageAdded: Effect { .hugepageAdded(HugepageAdded()) }
}
